//! Decoding: one frame at a time, or a foreign stream from its beginning.

pub(crate) mod decoded;
pub(crate) mod frame;
mod gzip;
pub(crate) mod input;
mod zstd;

use std::sync::Arc;

use crate::evenness::Evenness;
use crate::restart::followed::Followed;
use crate::{Codec, Error, ReadAt};

use decoded::Decoded;
use input::{Input, cut};

/// One decoding pass over a compressed stream from its beginning: frames, and optional padding.
pub(crate) struct Pass {
    input: Input,
    codec: Codec,
    engine: Box<dyn Engine>,
    /// Number of frames begun.
    frames: u64,
    /// Offset of the current frame.
    frame_at: Option<u64>,
    /// Whether the current frame has content: skippable frames of zstd have none.
    has_content: bool,
    /// Content lengths of the complete frames.
    evenness: Evenness,
    /// End of the first frame.
    first_end: Option<u64>,
    /// Whether the frame's last block was decoded and its trailer must be checked.
    at_trailer: bool,
    /// Length of the content returned.
    made: u64,
    /// Length of the content that is known to be right: complete frames and, in a truncated stream,
    /// the content before the end.
    sound: u64,
    /// The error that follows the content returned.
    failed: Option<Error>,
    /// Bytes after the last frame that are not a frame.
    trailing: Option<Error>,
    /// The beginning of the current frame, until [`Self::place`] returns it.
    begun: Option<StreamPosition>,
}

/// One codec's part of a pass.
trait Engine: Send {
    /// Prepares for the frame at the current position, and consumes what [`Self::decode`] does not
    /// need of it. The frame's number is for errors.
    fn begin(&mut self, input: &mut Input, number: u64) -> Result<Next, Error>;

    /// Decodes some of `stored` to the beginning of `out`.
    fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> Decoded;

    /// Number of bytes after the frame's last block that [`Self::decode`] does not consume.
    fn trailer_len(&self) -> usize;

    /// Checks the trailer of [`Self::trailer_len`] bytes, at offset `at` of the stream. The frame's
    /// number is for errors.
    fn check(&mut self, trailer: &[u8], number: u64, at: u64) -> Result<(), Error>;

    /// The expectation in errors: `valid zstd data`.
    fn expected(&self) -> &'static str;

    /// Finds restart points from the next frame on.
    fn track(&mut self);

    /// The boundary of blocks at which the decoder is, if all content before it was returned.
    fn boundary(&self) -> Option<Boundary>;

    /// Appends the decoder's state at the boundary to `out`. `window` is the content before it, in
    /// pieces, at least as much as [`Boundary::window`] or all of the frame's. `None` if decoding cannot
    /// be resumed here.
    fn state(&self, window: &[&[u8]], out: &mut Vec<u8>) -> Option<()>;

    /// Remembers the blocks after the boundary, to find out which content before it they refer to.
    fn follow(&mut self) {}

    /// The blocks since [`Self::follow`], if they are known.
    fn followed(&mut self) -> Option<Followed> {
        None
    }

    /// Continues with a state at its boundary. `None` if the state is invalid.
    fn resume(&mut self, state: &[u8]) -> Option<()>;
}

/// A boundary of blocks within a frame.
pub(crate) struct Boundary {
    /// Number of bytes after the boundary that the decoder has consumed.
    pub(crate) consumed: usize,
    /// Size of the content before the boundary to which later blocks may refer.
    pub(crate) window: u64,
}

/// A position in a stream at which decoding can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamPosition {
    /// Offset in the stream.
    pub(crate) stored: u64,
    /// Offset in the content.
    pub(crate) content: u64,
    /// Size of the content before it that is needed; `None` at the beginning of a frame, where no
    /// state is needed.
    pub(crate) window: Option<u64>,
}

/// What follows in a stream.
enum Next {
    /// A frame.
    Frame,
    /// A frame that decoders skip.
    Skippable,
    /// The end, or bytes that are not a frame.
    Other,
}

impl Pass {
    /// A pass over all of `source`, or `None` if it is not compressed.
    pub(crate) fn new(source: Arc<dyn ReadAt>, codec: Codec, max_window: u64) -> Option<Self> {
        Self::starting(source, codec, max_window, 0)
    }

    /// Finds restart points, for [`Self::place`]. Call it before the first read.
    pub(crate) fn track(&mut self) {
        self.engine.track();
    }

    /// A pass that begins at a frame at `at`, or is resumed there by [`Self::resume`].
    fn starting(source: Arc<dyn ReadAt>, codec: Codec, max_window: u64, at: u64) -> Option<Self> {
        let engine: Box<dyn Engine> = match codec {
            Codec::None => return None,
            Codec::Gzip => Box::new(gzip::Inflate::new()),
            Codec::Zstd => Box::new(zstd::Blocks::new(max_window)),
        };
        Some(Self {
            input: Input::new(source, at),
            codec,
            engine,
            frames: 0,
            frame_at: None,
            has_content: false,
            evenness: Evenness::default(),
            first_end: None,
            at_trailer: false,
            made: 0,
            sound: 0,
            failed: None,
            trailing: None,
            begun: None,
        })
    }

    /// A pass that begins at `place`, with the state that [`Self::state`] returned there; its content
    /// is that from [`StreamPosition::content`] on. `None` if the state is invalid.
    pub(crate) fn resume(
        source: Arc<dyn ReadAt>,
        codec: Codec,
        max_window: u64,
        place: StreamPosition,
        state: &[u8],
    ) -> Option<Self> {
        let mut pass = Self::starting(source, codec, max_window, place.stored)?;
        pass.restart(place, state)?;
        Some(pass)
    }

    /// Continues at another place of the same stream, which has a window, as after [`Self::resume`], and
    /// uses the memory of the pass again.
    pub(crate) fn move_to(&mut self, place: StreamPosition, state: &[u8]) -> Option<()> {
        self.input.move_to(place.stored);
        self.frames = 0;
        self.frame_at = None;
        self.has_content = false;
        self.evenness = Evenness::default();
        self.first_end = None;
        self.at_trailer = false;
        (self.made, self.sound) = (0, 0);
        (self.failed, self.trailing, self.begun) = (None, None, None);
        self.restart(place, state)
    }

    fn restart(&mut self, place: StreamPosition, state: &[u8]) -> Option<()> {
        if place.window.is_some() {
            self.engine.resume(state)?;
            self.frames = 1;
            self.frame_at = Some(place.stored);
            self.has_content = true;
        }
        Some(())
    }

    /// A place at which decoding can begin again, if all content before it and none after it was
    /// returned, or if it is the beginning of the current frame.
    pub(crate) fn place(&mut self) -> Option<StreamPosition> {
        if let Some(begun) = self.begun.take() {
            return Some(begun);
        }
        let boundary = self.engine.boundary()?;
        (self.frame_at.is_some() && !self.at_trailer).then(|| StreamPosition {
            stored: self.input.position() - boundary.consumed as u64,
            content: self.made,
            window: Some(boundary.window.min(self.made - self.sound)),
        })
    }

    /// Appends the state at the place of the last content returned to `out`. `window` is the content
    /// before it, in pieces, of [`StreamPosition::window`] bytes. `None` if there is no such state.
    pub(crate) fn state(&self, window: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
        self.engine.state(window, out)
    }

    /// Remembers the blocks after this place, if the codec has windows from which unused content can be
    /// dropped.
    pub(crate) fn follow(&mut self) {
        self.engine.follow();
    }

    /// The blocks since [`Self::follow`], if they are known.
    pub(crate) fn followed(&mut self) -> Option<Followed> {
        self.engine.followed()
    }

    /// Decodes more content to the beginning of `out` and returns how much; 0 only at the end of the
    /// stream. After an error from the stream itself, there is no more.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if out.is_empty() {
            return Ok(0);
        }
        if let Some(error) = &self.failed {
            return Err(error.again());
        }
        loop {
            let Some(frame_at) = self.frame_at else {
                match self.begin()? {
                    true => continue,
                    false => return Ok(0),
                }
            };
            let number = self.frames - 1;
            if self.at_trailer {
                self.end(number, frame_at)?;
                continue;
            }
            let stored = self.input.ensure(1)?;
            let at_end = stored.is_empty();
            let Decoded { used, made, ended } = self.engine.decode(stored, out);
            self.input.consume(used);
            self.made += made as u64;
            match ended {
                Ok(false) if at_end && made == 0 => {
                    let lost = format!("the rest of the {}", self.codec.unit());
                    return Err(self.cut(number, frame_at, &lost));
                }
                Ok(ended) => self.at_trailer = ended,
                Err(found) => {
                    let error = Error::Broken {
                        region: self.codec.region(number),
                        offset: frame_at,
                        found,
                        expected: self.engine.expected().into(),
                    };
                    if made == 0 {
                        return Err(error);
                    }
                    self.failed = Some(error);
                }
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }

    /// Checks the frame's trailer and ends the frame.
    fn end(&mut self, number: u64, frame_at: u64) -> Result<(), Error> {
        let (at, len) = (self.input.position(), self.engine.trailer_len());
        let stored = self.input.ensure(len)?;
        let Some(trailer) = stored.get(..len) else {
            let left = stored.len();
            self.input.consume(left);
            let lost = format!("the {}'s trailer", self.codec.unit());
            return Err(self.cut(number, frame_at, &lost));
        };
        self.engine.check(trailer, number, at)?;
        self.input.consume(len);
        self.at_trailer = false;
        self.frame_at = None;
        if self.has_content {
            self.evenness.add(self.made - self.sound);
        }
        self.sound = self.made;
        self.first_end.get_or_insert(self.input.position());
        Ok(())
    }

    /// The error for a stream that ends here, within a frame.
    fn cut(&mut self, number: u64, frame_at: u64, lost: &str) -> Error {
        self.sound = self.made;
        cut(self.codec.region(number), frame_at, self.position(), lost)
    }

    /// Begins the next frame; `false` at the end.
    fn begin(&mut self) -> Result<bool, Error> {
        if self.trailing.is_some() {
            return Ok(false);
        }
        let at = self.input.position();
        match self.engine.begin(&mut self.input, self.frames)? {
            next @ (Next::Frame | Next::Skippable) => {
                self.has_content = matches!(next, Next::Frame);
                self.frames += 1;
                self.frame_at = Some(at);
                self.begun = Some(StreamPosition {
                    stored: at,
                    content: self.made,
                    window: None,
                });
                Ok(true)
            }
            Next::Other if self.input.is_padding()? => Ok(false),
            Next::Other if self.frames == 0 => Err(self.input.trailing()),
            Next::Other => {
                self.trailing = Some(self.input.trailing());
                Ok(false)
            }
        }
    }

    /// The error about bytes after the last frame, if the pass ended at such bytes.
    pub(crate) fn trailing(&self) -> Option<&Error> {
        self.trailing.as_ref()
    }

    /// Length of the content returned.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Whether the stream may have been truncated after a frame, as far as it was decoded.
    pub(crate) fn looks_cut(&self) -> bool {
        self.evenness.looks_cut()
    }

    /// Length of the content that is known to be right after a failure: complete frames and, in a
    /// truncated stream, the content before the end. In a damaged frame, content before the offset at
    /// which the decoder fails may be wrong.
    pub(crate) fn sound(&self) -> u64 {
        self.sound
    }

    /// Number of stored bytes consumed.
    pub(crate) fn position(&self) -> u64 {
        self.input.position()
    }
}

/// End of the first frame or member in `stored`.
pub(crate) fn first_end(stored: &[u8], codec: Codec) -> Result<u64, Error> {
    let Some(mut pass) = Pass::new(Arc::new(stored.to_vec()), codec, u64::MAX) else {
        return Ok(stored.len() as u64);
    };
    let mut out = vec![0; 64 << 10];
    loop {
        let read = pass.read(&mut out);
        match (pass.first_end, read) {
            // Errors after the frame do not matter.
            (Some(end), _) => return Ok(end),
            (None, Ok(_)) => {}
            (None, Err(error)) => return Err(error),
        }
    }
}
