//! Buffered sequential input.

use std::sync::Arc;

use crate::zero::is_zero;
use crate::{Error, ReadAt};

/// Number of bytes to read at a time.
const PIECE: usize = 512 << 10;

/// Maximum number of zeros after a stream, which pad it to the block size of a device.
pub(crate) const PADDING_MAX: u64 = 64 << 10;

/// A buffer that moves over a source.
pub(crate) struct Input {
    source: Arc<dyn ReadAt>,
    bytes: Vec<u8>,
    /// The part of `bytes` that is not consumed.
    from: usize,
    to: usize,
    /// Offset in the source of `bytes[to]`.
    next: u64,
}

impl Input {
    /// A buffer that begins at offset `at` of the source.
    pub(crate) fn new(source: Arc<dyn ReadAt>, at: u64) -> Self {
        Self {
            source,
            bytes: Vec::new(),
            from: 0,
            to: 0,
            next: at,
        }
    }

    /// Continues at another offset of the source.
    pub(crate) fn move_to(&mut self, at: u64) {
        (self.from, self.to, self.next) = (0, 0, at);
    }

    /// The buffered bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// Offset in the source of the buffered bytes.
    pub(crate) fn position(&self) -> u64 {
        self.next - (self.to - self.from) as u64
    }

    /// Consumes the first `n` buffered bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.from += n.min(self.to - self.from);
    }

    /// Buffers at least `want` bytes, or all that are left.
    pub(crate) fn ensure(&mut self, want: usize) -> Result<&[u8], Error> {
        if self.to - self.from >= want {
            return Ok(self.bytes());
        }
        self.bytes.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let size = PIECE.max(want);
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        while self.to < want {
            let n = self
                .source
                .read_full_at(&mut self.bytes[self.to..], self.next)
                .map_err(Error::Read)?;
            if n == 0 {
                break;
            }
            self.to += n;
            self.next += n as u64;
        }
        Ok(self.bytes())
    }

    /// Whether the rest of the source is padding: up to [`PADDING_MAX`] zeros. Consumes it if so.
    pub(crate) fn is_padding(&mut self) -> Result<bool, Error> {
        let left = self
            .ensure(PADDING_MAX as usize + 1)
            .map(|b| (b.len(), is_zero(b)))?;
        let padding = left.0 as u64 <= PADDING_MAX && left.1;
        if padding {
            self.consume(left.0);
        }
        Ok(padding)
    }

    /// The error for bytes after the last frame that are not a frame.
    pub(crate) fn trailing(&self) -> Error {
        let at = self.bytes();
        Error::Broken {
            region: "trailing bytes".into(),
            offset: self.position(),
            found: format!("{:02x?}", &at[..at.len().min(8)]),
            expected: "the end of the stream, or zeros up to a block boundary".into(),
        }
    }
}

/// The error for a stream that ends within `region`, which begins at `offset`.
pub(crate) fn cut(region: String, offset: u64, end: u64, expected: &str) -> Error {
    Error::Broken {
        region,
        offset,
        found: format!("the end of the stream at {end:#x}"),
        expected: expected.into(),
    }
}
