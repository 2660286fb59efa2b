//! Storing content: the parallel ordered encoder.
//!
//! [`Shape::Frames`] cuts the content at every `frame_size` bytes and stores each piece by
//! itself; the ordered pipeline does the pieces in parallel. A source that can be
//! read anywhere is read by the workers, so reading (or walking a machine's memory) is as
//! parallel as compressing. [`Shape::Single`] is what other tools leave: one member or one frame.

mod frame;
mod repeat;
mod single;

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::Mutex;

use crate::pipeline::{self, Job};
use crate::seal::format::{FRAME_MAX, FRAME_UNIT};
use crate::seal::write::Seal;
use crate::table::{self, Entry, FrameTable};
use crate::{Codec, Error, Progress, ReadAt};

pub(crate) use frame::FrameEncoder;
use repeat::Repeats;

/// How bytes are to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// The codec.
    pub codec: Codec,
    /// The codec's level; its default (gzip 6, zstd 3) if none is given. zstd has -7 to 22, gzip
    /// 1 to 12 ([`Shape::Single`] 1 to 9).
    pub level: Option<i32>,
    /// Content bytes per frame: a multiple of 4096 up to 64 MiB. Default 1 MiB.
    pub frame_size: u32,
    /// Workers.
    pub threads: NonZeroUsize,
}

impl Encoding {
    /// The default content of a frame.
    pub const FRAME_SIZE: u32 = 1 << 20;

    /// `codec` at its default level, frames of the default size, one worker.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            level: None,
            frame_size: Self::FRAME_SIZE,
            threads: NonZeroUsize::MIN,
        }
    }

    /// The level that will be used; 0 without a codec.
    pub fn effective_level(&self) -> i32 {
        self.level.unwrap_or(match self.codec {
            Codec::None => 0,
            Codec::Gzip => 6,
            Codec::Zstd => 3,
        })
    }

    /// Whether the options make sense for `shape`. The encoders ask this first; whoever wants to
    /// know before a file is made can ask too.
    pub fn check(&self, shape: Shape) -> Result<(), Error> {
        let size = self.frame_size;
        if size == 0 || size > FRAME_MAX || !size.is_multiple_of(FRAME_UNIT) {
            return Err(Error::Options(format!(
                "frames of {size} bytes: a multiple of {FRAME_UNIT} up to {FRAME_MAX} is needed"
            )));
        }
        let levels = match (self.codec, shape) {
            (Codec::None, _) => return Ok(()),
            (Codec::Gzip, Shape::Frames) => 1..=12,
            (Codec::Gzip, Shape::Single) => 1..=9,
            (Codec::Zstd, _) => -7..=22,
        };
        let level = self.effective_level();
        if levels.contains(&level) {
            return Ok(());
        }
        let (codec, from, to) = (self.codec, levels.start(), levels.end());
        let one = match shape {
            Shape::Frames => "",
            Shape::Single => " in one piece",
        };
        Err(Error::Options(format!(
            "{codec}{one} has levels {from} to {to}, not {level}"
        )))
    }
}

impl Default for Encoding {
    /// zstd at its default level.
    fn default() -> Self {
        Self::new(Codec::Zstd)
    }
}

/// What a stored stream looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Independent frames of `frame_size` content bytes each: what a seal indexes.
    Frames,
    /// One gzip member or one zstd frame, as FreeBSD's kernel and savecore(8) leave it.
    Single,
}

/// What an encoder has written.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Bytes that went in.
    pub content_len: u64,
    /// Bytes that came out.
    pub stored_len: u64,
    codec: Codec,
    /// Of [`Shape::Frames`].
    table: Option<FrameTable>,
}

impl Stored {
    /// Content that was written as it is, in one piece: [`Shape::Single`] without a codec. For
    /// whoever has decoded content at hand ([`crate::Stream::decode`]) and nothing to encode.
    pub fn plain(content_len: u64) -> Self {
        Self {
            content_len,
            stored_len: content_len,
            codec: Codec::None,
            table: None,
        }
    }

    /// The codec it was stored with.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Its frames, if it has the shape of [`Shape::Frames`].
    pub fn frames(&self) -> Option<&FrameTable> {
        self.table.as_ref()
    }
}

/// Stores all of `source`; workers read their frames themselves, at their offsets.
///
/// The same content gives the same bytes for any number of threads. `source` has as many bytes as
/// its size says at the beginning; if it turns out to have less, that is an [`Error::Read`].
pub fn encode_at(
    source: &dyn ReadAt,
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    encoding.check(shape)?;
    let len = source.size().map_err(Error::Read)?;
    encode(&At { source, len }, encoding, shape, out, progress)
}

/// Stores all that `source` gives until its end; workers take turns at reading it.
///
/// The same content gives the same bytes for any number of threads, and the same as
/// [`encode_at`].
pub fn encode_read(
    source: &mut (dyn Read + Send),
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    encoding.check(shape)?;
    let turn = Turn(Mutex::new(source));
    encode(&turn, encoding, shape, out, progress)
}

/// Writes the seal behind what [`encode_at`] or [`encode_read`] wrote to `out` with
/// [`Shape::Frames`]: the opaque `attachment` and the frame index, all of it covered by checks.
/// Returns the bytes written. An attachment has
/// [`ATTACHMENT_MAX`](crate::seal::format::ATTACHMENT_MAX) bytes at most.
pub fn write_seal(stored: &Stored, attachment: &[u8], out: &mut dyn Write) -> Result<u64, Error> {
    let Some(table) = &stored.table else {
        return Err(Error::Options(
            "a stream in one piece has no frames to be sealed".into(),
        ));
    };
    Seal {
        codec: stored.codec,
        table,
        attachment,
    }
    .write(out)
}

/// Where the content of frames comes from.
trait Source: Sync {
    /// Fills `frame` with the content of frame `number`, or empties it at the end. Called for
    /// each number in order, never twice at once. A source that would rather read later returns
    /// with [`Claimed::Later`], and [`Self::fetch`] is called with the same number.
    fn claim(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Claimed, Error>;

    /// Fills `frame` with the content of a frame claimed as [`Claimed::Later`], or says how many
    /// zeros are all that it holds.
    fn fetch(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Option<usize>, Error>;
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claimed {
    /// There is no such frame: the content has ended.
    End,
    /// The frame has been read.
    Here,
    /// The frame can be fetched at any time, by anybody.
    Later,
}

struct At<'a> {
    source: &'a dyn ReadAt,
    len: u64,
}

impl At<'_> {
    fn part(&self, number: u64, size: usize) -> (u64, usize) {
        // A number whose offset is beyond 64 bits is beyond the end.
        let offset = number.saturating_mul(size as u64);
        let left = self.len.saturating_sub(offset);
        (offset, left.min(size as u64) as usize)
    }
}

impl Source for At<'_> {
    fn claim(&self, number: u64, size: usize, _: &mut Vec<u8>) -> Result<Claimed, Error> {
        let (_, len) = self.part(number, size);
        Ok(if len == 0 {
            Claimed::End
        } else {
            Claimed::Later
        })
    }

    fn fetch(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        let (offset, len) = self.part(number, size);
        if self.source.known_zero(offset, len as u64) {
            return Ok(Some(len));
        }
        frame.resize(len, 0);
        self.source
            .read_exact_at(frame, offset)
            .map_err(Error::Read)?;
        Ok(None)
    }
}

struct Turn<'a>(Mutex<&'a mut (dyn Read + Send)>);

impl Source for Turn<'_> {
    fn claim(&self, _: u64, size: usize, frame: &mut Vec<u8>) -> Result<Claimed, Error> {
        // A panic of the source ends the pipeline; nobody reads after it.
        let mut source = self.0.lock().unwrap_or_else(|e| e.into_inner());
        frame.resize(size, 0);
        let mut len = 0;
        while len < size {
            match source.read(&mut frame[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Read(e)),
            }
        }
        frame.truncate(len);
        Ok(if len == 0 {
            Claimed::End
        } else {
            Claimed::Here
        })
    }

    fn fetch(&self, _: u64, _: usize, _: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        // `claim` never says `Later`.
        Ok(None)
    }
}

fn encode(
    source: &dyn Source,
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    match (shape, encoding.codec) {
        (Shape::Single, Codec::Gzip) => single::gzip(source, encoding, out, progress),
        (Shape::Single, Codec::Zstd) => single::zstd(source, encoding, out, progress),
        (Shape::Single, Codec::None) => {
            let mut stored = frames(source, encoding, out, progress)?;
            stored.table = None;
            Ok(stored)
        }
        (Shape::Frames, _) => frames(source, encoding, out, progress),
    }
}

/// Content of one frame, or what stands for it.
struct Input {
    frame: Vec<u8>,
    claimed: Claimed,
}

/// What a worker has: its codec and a frame of content.
struct Worker<E> {
    input: Input,
    engine: E,
}

impl<E> Worker<E> {
    fn new(engine: E) -> Self {
        Self {
            input: Input {
                frame: Vec::new(),
                claimed: Claimed::End,
            },
            engine,
        }
    }

    fn claim(&mut self, source: &dyn Source, number: u64, size: usize) -> Result<bool, Error> {
        self.input.claimed = source.claim(number, size, &mut self.input.frame)?;
        Ok(self.input.claimed != Claimed::End)
    }

    /// The content of the frame claimed; `None` for zeros of the length given.
    fn content(
        &mut self,
        source: &dyn Source,
        number: u64,
        size: usize,
    ) -> Result<(Option<usize>, &[u8], &mut E), Error> {
        let zeros = match self.input.claimed {
            Claimed::Later => source.fetch(number, size, &mut self.input.frame)?,
            Claimed::Here | Claimed::End => None,
        };
        Ok((zeros, &self.input.frame, &mut self.engine))
    }
}

/// The job of [`Shape::Frames`].
struct Frames<'a> {
    source: &'a dyn Source,
    encoding: &'a Encoding,
    repeats: Repeats<Entry>,
}

impl Job for Frames<'_> {
    type Worker = Worker<FrameEncoder>;
    type Note = (u32, Entry);

    fn worker(&self) -> Result<Self::Worker, Error> {
        Ok(Worker::new(FrameEncoder::new(self.encoding)?))
    }

    fn claim(&self, worker: &mut Self::Worker, number: u64) -> Result<bool, Error> {
        worker.claim(self.source, number, self.encoding.frame_size as usize)
    }

    fn work(
        &self,
        worker: &mut Self::Worker,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self::Note, Error> {
        let size = self.encoding.frame_size as usize;
        let (zeros, content, engine) = worker.content(self.source, number, size)?;
        // A frame has at most FRAME_MAX bytes.
        let len = zeros.unwrap_or(content.len()) as u32;
        let entry = self.repeats.encode(zeros, content, out, |content, out| {
            engine.encode(content, out)
        })?;
        Ok((len, entry))
    }
}

fn frames(
    source: &dyn Source,
    encoding: &Encoding,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let job = Frames {
        source,
        encoding,
        repeats: Repeats::new(encoding.codec),
    };
    let mut table = FrameTable::new(encoding.frame_size);
    pipeline::run(
        &job,
        encoding.threads,
        progress,
        &mut |_, bytes, (len, entry)| {
            out.write_all(bytes).map_err(Error::Write)?;
            table.push(len, entry).ok_or_else(table::too_long)?;
            progress.advance(len.into(), bytes.len() as u64);
            Ok(())
        },
    )?;
    Ok(Stored {
        content_len: table.content_len(),
        stored_len: table.stored_len(),
        codec: encoding.codec,
        table: Some(table),
    })
}
