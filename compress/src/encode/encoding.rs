//! The options of an encoder.

use std::num::NonZeroUsize;

use crate::seal::format::{FRAME_MAX, FRAME_UNIT};
use crate::{Codec, Error};

/// Options of an encoder.
///
/// ```
/// use livecore_compress::{Codec, Encoding};
///
/// let encoding = Encoding::new(Codec::Gzip).level(9).frame_size(64 << 10);
/// assert_eq!(encoding.effective_level(), 9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoding {
    /// The codec.
    pub codec: Codec,
    /// Compression level; the default is gzip 6 or zstd 3. zstd has -7 to 22, gzip 1 to 12
    /// ([`Shape::Single`] 1 to 9).
    pub level: Option<i32>,
    /// Content size of a frame: a multiple of 4096 up to 64 MiB. Default 1 MiB.
    pub frame_size: u32,
    /// Number of worker threads.
    pub threads: NonZeroUsize,
    /// Number of bytes at the beginning of the content to copy into the seal ([`Shape::Frames`]
    /// only). Default 0.
    pub copy: u64,
}

impl Encoding {
    /// The default frame size.
    pub const FRAME_SIZE: u32 = 1 << 20;

    /// `codec` at its default level, with the default frame size and one thread.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            level: None,
            frame_size: Self::FRAME_SIZE,
            threads: NonZeroUsize::MIN,
            copy: 0,
        }
    }

    /// Sets [`Self::level`]; `None` for the default.
    #[must_use]
    pub fn level(mut self, level: impl Into<Option<i32>>) -> Self {
        self.level = level.into();
        self
    }

    /// Sets [`Self::frame_size`], in bytes.
    #[must_use]
    pub fn frame_size(mut self, bytes: u32) -> Self {
        self.frame_size = bytes;
        self
    }

    /// Sets [`Self::threads`].
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`Self::copy`], in bytes.
    #[must_use]
    pub fn copy(mut self, bytes: u64) -> Self {
        self.copy = bytes;
        self
    }

    /// The level in effect; 0 without compression.
    pub fn effective_level(&self) -> i32 {
        self.level.unwrap_or(match self.codec {
            Codec::None => 0,
            Codec::Gzip => 6,
            Codec::Zstd => 3,
        })
    }

    /// Checks that the options are valid for `shape`. The encoders call this first. Call it to check
    /// options before creating a file.
    ///
    /// # Errors
    ///
    /// [`Error::Options`].
    pub fn check(&self, shape: Shape) -> Result<(), Error> {
        let size = self.frame_size;
        if size == 0 || size > FRAME_MAX || !size.is_multiple_of(FRAME_UNIT) {
            return Err(Error::Options(format!(
                "frame size {size} must be a multiple of {FRAME_UNIT} up to {FRAME_MAX}"
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
            Shape::Single => " (single stream)",
        };
        Err(Error::Options(format!(
            "invalid level {level}: {codec}{one} has levels {from} to {to}"
        )))
    }
}

impl Default for Encoding {
    /// zstd at its default level.
    fn default() -> Self {
        Self::new(Codec::Zstd)
    }
}

/// The shape of a stored stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Independent frames of `frame_size` bytes of content each, which a seal can index.
    Frames,
    /// One gzip member or one zstd frame, as FreeBSD's kernel and savecore(8) write it.
    Single,
}
