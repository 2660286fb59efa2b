//! The position of a frame walk, with reads and errors relative to it.

use crate::decode::input::cut;
use crate::{Codec, Error, ReadAt};

/// The start of the next frame.
pub(super) struct Cursor<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) codec: Codec,
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) number: u64,
}

impl Cursor<'_> {
    /// Fills `buf` from `at`, up to the end.
    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Result<usize, Error> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.source
            .read_full_at(&mut buf[..len], at)
            .map_err(Error::Read)
    }

    /// Fills `buf` from `at`, in the frame that begins here.
    pub(super) fn need(&self, buf: &mut [u8], at: u64, what: &str) -> Result<(), Error> {
        let got = self.read(buf, at)?;
        if got == buf.len() {
            return Ok(());
        }
        Err(self.cut(what))
    }

    /// The error for a stream that ends within the frame that begins here.
    pub(super) fn cut(&self, what: &str) -> Error {
        match self.source.size() {
            Ok(size) => cut(
                self.codec.region(self.number),
                self.at,
                self.end.min(size),
                what,
            ),
            Err(error) => Error::Read(error),
        }
    }

    /// The error for a damaged frame.
    pub(super) fn broken(&self, found: String, expected: impl Into<String>) -> Error {
        Error::Broken {
            region: self.codec.region(self.number),
            offset: self.at,
            found,
            expected: expected.into(),
        }
    }
}
