//! Reading bytes at an offset.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

/// A source of bytes at an offset, usable from several threads at once.
///
/// Implemented by files, slices, decoded streams, and the payload of a dump being written. There is
/// no current position. Files are read with pread(2) and not mapped, because truncating a mapped
/// file causes SIGBUS.
pub trait ReadAt: Send + Sync {
    /// The number of bytes. May be slow: the first call decodes a foreign compressed stream to its
    /// end.
    ///
    /// # Errors
    ///
    /// A system error; for decoded content an [`crate::Error`] inside it
    /// ([`crate::Error::in_io`]).
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buf.len()` bytes at `offset`. Returns the number of bytes read; 0 only at or
    /// after the end, or for an empty `buf`.
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
            format!(
                "read at {offset:#x}: found {got} bytes, expected {}",
                buf.len()
            ),
        ))
    }

    /// Fills `buf` from `offset`, up to the end. Returns the number of bytes read.
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

    /// When the bytes were last changed, if it is known.
    fn modified(&self) -> Option<SystemTime> {
        None
    }

    /// Whether `len` bytes at `offset` are known to be zero without reading them. `false` means that
    /// it is not known.
    fn known_zero(&self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        false
    }

    /// Ranges that could not be read and read as zeros, ascending. Only salvage reads such a source.
    fn lost(&self) -> Vec<Range<u64>> {
        Vec::new()
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
        // pread(2) takes a signed offset; a file cannot extend beyond it.
        if i64::try_from(offset).is_err() {
            return Ok(0);
        }
        FileExt::read_at(self, buf, offset)
    }

    fn modified(&self) -> Option<SystemTime> {
        self.metadata().ok()?.modified().ok()
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn modified(&self) -> Option<SystemTime> {
        (**self).modified()
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        (**self).known_zero(offset, len)
    }

    fn lost(&self) -> Vec<Range<u64>> {
        (**self).lost()
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }

    fn modified(&self) -> Option<SystemTime> {
        (**self).modified()
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        (**self).known_zero(offset, len)
    }

    fn lost(&self) -> Vec<Range<u64>> {
        (**self).lost()
    }
}

/// A part of another source: `len` bytes at `start`.
#[derive(Debug, Clone)]
pub struct Window<R> {
    inner: R,
    start: u64,
    len: u64,
}

impl<R: ReadAt> Window<R> {
    /// A window of `len` bytes at `start`. It may extend beyond the end of `inner`; reads there are
    /// short, as those of the source.
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

    fn modified(&self) -> Option<SystemTime> {
        self.inner.modified()
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
            && self.inner.known_zero(self.start + offset, len)
    }

    fn lost(&self) -> Vec<Range<u64>> {
        let all = self.inner.lost().into_iter();
        let inside = all.filter_map(|range| {
            let start = range.start.saturating_sub(self.start);
            let end = range.end.saturating_sub(self.start).min(self.len);
            (start < end).then_some(start..end)
        });
        inside.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_ends_at_its_length_or_at_the_end_of_the_source() {
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
