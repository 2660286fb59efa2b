//! Taking content out again: one frame at a time, or a foreign stream from its front.

pub(crate) mod frame;
mod gzip;
pub(crate) mod input;
mod zstd;

use std::sync::Arc;

use crate::{Codec, Error, ReadAt};

use input::{Input, cut};

/// A compressed stream being decoded from its front, whatever its codec: frames one after the
/// other, padding behind them or not.
pub(crate) struct Pass {
    input: Input,
    codec: Codec,
    engine: Box<dyn Engine>,
    /// Frames begun.
    frames: u64,
    /// Where the frame that is being decoded began.
    frame_at: Option<u64>,
    /// Where the first frame ended.
    first_end: Option<u64>,
    /// Whether the frame's last block has been decoded, and what follows it is to be checked.
    at_trailer: bool,
    /// Content that has been given.
    made: u64,
    /// As much of it as nothing speaks against: frames that ended as they should and, if the stream
    /// has been cut off, what comes before the cut.
    sound: u64,
    /// What follows the content that has been given.
    failed: Option<Error>,
    /// Bytes behind the last frame that no frame begins with.
    trailing: Option<Error>,
}

/// One codec's part of a pass.
trait Engine: Send {
    /// Looks at the bytes at hand, gets ready for the frame that begins there and uses up what
    /// [`Self::decode`] does not want to see of it. The frame's number is for errors.
    fn begin(&mut self, input: &mut Input, number: u64) -> Result<Next, Error>;

    /// Decodes a little of `stored` to the beginning of `out`.
    fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> Decoded;

    /// Bytes that follow the frame's last block and that [`Self::decode`] does not use up.
    fn trailer_len(&self) -> usize;

    /// Checks the trailer of [`Self::trailer_len`] bytes, which is in the stream at `at`. The frame's
    /// number is for errors.
    fn check(&mut self, trailer: &[u8], number: u64, at: u64) -> Result<(), Error>;

    /// What decodes, in words: `a frame that decodes`.
    fn expected(&self) -> &'static str;
}

/// What comes next in a stream.
enum Next {
    /// A frame.
    Frame,
    /// Nothing, or something that no frame begins with.
    Other,
}

/// What became of some stored bytes.
struct Decoded {
    /// Bytes used up.
    used: usize,
    /// Bytes of content.
    made: usize,
    /// Whether the frame has ended, or why it cannot be decoded.
    ended: Result<bool, String>,
}

impl Pass {
    /// A pass over all of `source`, or `None` if it is not compressed.
    pub(crate) fn new(source: Arc<dyn ReadAt>, codec: Codec, max_window: u64) -> Option<Self> {
        let engine: Box<dyn Engine> = match codec {
            Codec::None => return None,
            Codec::Gzip => Box::new(gzip::Inflate::new()),
            Codec::Zstd => Box::new(zstd::Blocks::new(max_window)),
        };
        Some(Self {
            input: Input::new(source),
            codec,
            engine,
            frames: 0,
            frame_at: None,
            first_end: None,
            at_trailer: false,
            made: 0,
            sound: 0,
            failed: None,
            trailing: None,
        })
    }

    /// Decodes more content to the beginning of `out` and says how much; 0 only at the end of the
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

    /// Ends the frame, if its trailer is right.
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
        self.sound = self.made;
        self.first_end.get_or_insert(self.input.position());
        Ok(())
    }

    /// The error of a stream that ends here, within a frame.
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
            Next::Frame => {
                self.frames += 1;
                self.frame_at = Some(at);
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

    /// What follows the last frame, if the pass has ended at something that is no frame.
    pub(crate) fn trailing(&self) -> Option<&Error> {
        self.trailing.as_ref()
    }

    /// How much of the content from the front may be believed although the pass has failed: frames
    /// that ended as they should and, if the stream has been cut off, what comes before the cut. In
    /// a frame that is damaged, content before the place where a decoder notices may be wrong.
    pub(crate) fn sound(&self) -> u64 {
        self.sound
    }

    /// Stored bytes used up so far.
    pub(crate) fn position(&self) -> u64 {
        self.input.position()
    }
}

/// Where the first frame or member in `stored` ends.
pub(crate) fn first_end(stored: &[u8], codec: Codec) -> Result<u64, Error> {
    let Some(mut pass) = Pass::new(Arc::new(stored.to_vec()), codec, u64::MAX) else {
        return Ok(stored.len() as u64);
    };
    let mut out = vec![0; 64 << 10];
    loop {
        let read = pass.read(&mut out);
        match (pass.first_end, read) {
            // What is wrong behind it is no matter of this frame.
            (Some(end), _) => return Ok(end),
            (None, Ok(_)) => {}
            (None, Err(error)) => return Err(error),
        }
    }
}
