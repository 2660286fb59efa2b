//! The parallel ordered encoder.
//!
//! [`Shape::Frames`] divides the content into pieces of `frame_size` bytes and stores each as an
//! independent frame; the ordered pipeline encodes the frames in parallel. If the source can be read
//! at any offset, the workers read it, so reading (or walking a machine's memory) is parallel too.
//! [`Shape::Single`] writes one member or one frame, as other programs do.

mod encoding;
mod frame;
mod frames;
mod repeat;
mod single;
mod source;
mod stored;
mod writer;

use std::io::Read;
use std::sync::Mutex;

use crate::{Codec, Error, Output, Progress, ReadAt};

pub use encoding::{Encoding, Shape};
pub(crate) use frame::FrameEncoder;
pub use stored::{Stored, write_seal};
pub use writer::FrameWriter;

use frames::frames;
use source::{At, Source, Turn};

/// Stores all of `source`; workers read their frames at their offsets.
///
/// Without compression, workers also write their frames at their offsets, if `out` has
/// [`Output::at`]. The output is the same for any number of threads. The size of `source` is read once, at the
/// beginning.
///
/// # Errors
///
/// [`Error::Options`] as [`Encoding::check`]; [`Error::Read`], also if `source` is shorter than its
/// size; [`Error::Write`]; [`Error::Cancelled`].
pub fn encode_at(
    source: &dyn ReadAt,
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    encoding.check(shape)?;
    let len = source.size().map_err(Error::Read)?;
    encode(&At { source, len }, encoding, shape, out, progress)
}

/// Stores `source` up to its end; workers take turns reading it.
///
/// The output is the same for any number of threads, and the same as that of [`encode_at`].
///
/// # Errors
///
/// As [`encode_at`].
pub fn encode_read(
    source: &mut (dyn Read + Send),
    encoding: &Encoding,
    shape: Shape,
    out: &mut dyn Output,
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
    out: &mut dyn Output,
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
