//! Bytes at an offset: the one way in which everything here is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Something that gives bytes at an offset, from any number of threads at once.
///
/// Answered by a file, a slice, a decoded stream, the payload of a dump that is about to be
/// written. No reader keeps a position; files are read with pread(2), never mapped (a map of a
/// file that somebody shortens is a SIGBUS).
pub trait ReadAt: Send + Sync {
    /// How many bytes there are. May be costly: a foreign compressed stream does not say, and is
    /// decoded to its end the first time somebody asks.
    ///
    /// # Errors
    ///
    /// What the system says; of decoded content an [`crate::Error`] within
    /// ([`crate::Error::in_io`]).
    fn size(&self) -> io::Result<u64>;

    /// Reads at most `buf.len()` bytes at `offset` and says how many; 0 only at the end, beyond
    /// it, or for an empty `buf`.
    ///
    /// # Errors
    ///
    /// As [`Self::size`].
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    ///
    /// # Errors
    ///
    /// As [`Self::size`], and at the end.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let got = self.read_full_at(buf, offset)?;
        if got == buf.len() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{} bytes wanted at {offset:#x}, {got} are there", buf.len()),
        ))
    }

    /// Fills as much of `buf` as there is from `offset`, and says how much that was.
    ///
    /// # Errors
    ///
    /// As [`Self::size`].
    fn read_full_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = offset.checked_add(done as u64) else {
                break;
            };
            match self.read_at(&mut buf[done..], at) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Whether `len` bytes at `offset` are known, without reading them, to be zero. `false` means
    /// only that nobody knows.
    fn known_zero(&self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        false
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(from) = usize::try_from(offset).ok().filter(|o| *o < self.len()) else {
            return Ok(0);
        };
        let n = buf.len().min(self.len() - from);
        buf[..n].copy_from_slice(&self[from..from + n]);
        Ok(n)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, offset)
    }
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        // pread(2) takes a signed offset; nothing lies beyond it.
        if i64::try_from(offset).is_err() {
            return Ok(0);
        }
        FileExt::read_at(self, buf, offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        (**self).known_zero(offset, len)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        (**self).known_zero(offset, len)
    }
}

/// A part of another source: `len` bytes from `start`. What lies outside does not exist.
#[derive(Debug, Clone)]
pub struct Window<R> {
    inner: R,
    start: u64,
    len: u64,
}

impl<R: ReadAt> Window<R> {
    /// The window of `len` bytes at `start`. It may reach beyond the end of `inner`; reads there
    /// come back short, as the source itself would answer.
    pub fn new(inner: R, start: u64, len: u64) -> Self {
        Self {
            inner,
            start,
            len: len.min(u64::MAX - start),
        }
    }
}

impl<R: ReadAt> ReadAt for Window<R> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len.min(self.inner.size()?.saturating_sub(self.start)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if n == 0 {
            return Ok(0);
        }
        // offset < len, and start + len does not overflow by construction.
        self.inner.read_at(&mut buf[..n], self.start + offset)
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
            && self.inner.known_zero(self.start + offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_ends_where_it_says_and_where_the_source_ends() {
        let bytes: Vec<u8> = (0..10).collect();
        let window = Window::new(bytes, 4, 20);
        assert_eq!(window.size().unwrap(), 6);
        let mut buf = [0; 8];
        assert_eq!(window.read_full_at(&mut buf, 2).unwrap(), 4);
        assert_eq!(buf[..4], [6, 7, 8, 9]);
        assert_eq!(window.read_at(&mut buf, u64::MAX).unwrap(), 0);
    }

    #[test]
    fn short_source_is_unexpected_eof() {
        let bytes = vec![1_u8; 3];
        let error = bytes.read_exact_at(&mut [0; 4], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
