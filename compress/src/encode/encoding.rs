//! The options of an encoder.

use std::num::NonZeroUsize;

use crate::seal::format::{FRAME_MAX, FRAME_UNIT};
use crate::{Codec, Error};

/// How bytes are to be stored.
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
    /// The codec's level; its default (gzip 6, zstd 3) if none is given. zstd has -7 to 22, gzip
    /// 1 to 12 ([`Shape::Single`] 1 to 9).
    pub level: Option<i32>,
    /// Content bytes per frame: a multiple of 4096 up to 64 MiB. Default 1 MiB.
    pub frame_size: u32,
    /// Workers.
    pub threads: NonZeroUsize,
    /// Bytes from the content's beginning of which a seal gets a second copy
    /// ([`Shape::Frames`] only). Default none.
    pub copy: u64,
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
            copy: 0,
        }
    }

    /// Sets [`Self::level`].
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Sets [`Self::frame_size`].
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

    /// Sets [`Self::copy`].
    #[must_use]
    pub fn copy(mut self, bytes: u64) -> Self {
        self.copy = bytes;
        self
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
    ///
    /// # Errors
    ///
    /// [`Error::Options`].
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
