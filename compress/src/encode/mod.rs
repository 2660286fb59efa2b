//! Storing content: the parallel ordered encoder.
//!
//! [`Shape::Frames`] cuts the content at every `frame_size` bytes and stores each piece by
//! itself; the ordered pipeline does the pieces in parallel. A source that can be
//! read anywhere is read by the workers, so reading (or walking a machine's memory) is as
//! parallel as compressing. [`Shape::Single`] is what other tools leave: one member or one frame.

mod encoding;
mod frame;
mod frames;
mod repeat;
mod single;
mod source;
mod stored;

use std::io::{Read, Write};
use std::sync::Mutex;

use crate::{Codec, Error, Progress, ReadAt};

pub use encoding::{Encoding, Shape};
pub(crate) use frame::FrameEncoder;
pub use stored::{Stored, write_seal};

use frames::frames;
use source::{At, Source, Turn};

/// Stores all of `source`; workers read their frames themselves, at their offsets.
///
/// The same content gives the same bytes for any number of threads. `source` has as many bytes as
/// its size says at the beginning.
///
/// # Errors
///
/// [`Error::Options`] as [`Encoding::check`]; [`Error::Read`], also if `source` turns out to have
/// less than its size; [`Error::Write`]; [`Error::Cancelled`].
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
///
/// # Errors
///
/// As [`encode_at`].
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
