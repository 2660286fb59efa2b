//! The parallel ordered encoder. (Interface; the engine is to be written.)

use std::io::{Read, Write};
use std::num::NonZeroUsize;

use crate::{Codec, Error, Progress, ReadAt};

/// How bytes are to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// The codec.
    pub codec: Codec,
    /// The codec's level; its default (gzip 6, zstd 3) if none is given.
    pub level: Option<i32>,
    /// Content bytes per frame: a multiple of 4096 up to 64 MiB. Default 1 MiB.
    pub frame_size: u32,
    /// Workers.
    pub threads: NonZeroUsize,
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
    // ... the frame table
}

/// Stores all of `source`; workers read their frames themselves, at their offsets.
///
/// The same content gives the same bytes for any number of threads.
pub fn encode_at(
    source: &dyn ReadAt,
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let _ = (source, encoding, shape, out, progress);
    unreachable!("not written yet")
}

/// Stores all that `source` gives until its end, which is read by one thread.
pub fn encode_read(
    source: &mut (dyn Read + Send),
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let _ = (source, encoding, shape, out, progress);
    unreachable!("not written yet")
}

/// Writes the seal behind what [`encode_at`] or [`encode_read`] wrote to `out` with
/// [`Shape::Frames`]: the opaque `attachment` and the frame index, all of it covered by checks.
/// Returns the bytes written.
pub fn write_seal(stored: &Stored, attachment: &[u8], out: &mut dyn Write) -> Result<u64, Error> {
    let _ = (stored, attachment, out);
    unreachable!("not written yet")
}
