//! Outputs that several threads can write.

use std::fs::File;
use std::io::{self, Write};

/// An output that takes bytes in order and, if it is a file, also at offsets.
///
/// Bytes whose offset is known before they are decoded or copied go to [`Output::at`], if there is
/// one: the thread that has them writes them. [`InOrder`] makes any [`Write`] an output.
pub trait Output: Write {
    /// The part of the output after the bytes written so far. `None` if it takes bytes in order only.
    fn at(&self) -> Option<&dyn WriteAt> {
        None
    }

    /// States that the next `len` bytes were written with [`Self::at`]; the next write follows them.
    fn skip(&mut self, len: u64) {
        let _ = len;
    }
}

impl Output for Vec<u8> {}
impl Output for File {}
impl Output for io::Sink {}

/// An output that takes bytes in order only.
#[derive(Debug)]
pub struct InOrder<W>(pub W);

impl<W: Write> Write for InOrder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Output for InOrder<W> {}

/// Writes bytes at offsets, from several threads at once.
pub trait WriteAt: Sync {
    /// Writes all of `bytes` at `offset`. Calls do not overlap, and may have any order.
    ///
    /// # Errors
    ///
    /// The system's error for the output.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}
