//! Taking content out again: one frame at a time, or a foreign stream from its front.

pub(crate) mod frame;
pub(crate) mod gzip;
pub(crate) mod input;
pub(crate) mod zstd;

use std::sync::Arc;

use crate::{Codec, Error, ReadAt};

/// A compressed stream being decoded from its front, whatever its codec.
pub(crate) enum Pass {
    /// RFC 1952 members.
    Gzip(Box<gzip::GzipPass>),
    /// RFC 8878 frames.
    Zstd(Box<zstd::ZstdPass>),
}

impl Pass {
    /// A pass over all of `source`, or `None` if it is not compressed.
    pub(crate) fn new(source: Arc<dyn ReadAt>, codec: Codec, max_window: u64) -> Option<Self> {
        match codec {
            Codec::None => None,
            Codec::Gzip => Some(Self::Gzip(Box::new(gzip::GzipPass::new(source)))),
            Codec::Zstd => Some(Self::Zstd(Box::new(zstd::ZstdPass::new(
                source, max_window,
            )))),
        }
    }

    /// Decodes more content to the beginning of `out` and says how much; 0 only at the end of the
    /// stream. After an error from the stream itself, there is no more.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::Gzip(pass) => pass.read(out),
            Self::Zstd(pass) => pass.read(out),
        }
    }

    /// Stored bytes used up so far.
    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Gzip(pass) => pass.position(),
            Self::Zstd(pass) => pass.position(),
        }
    }
}
