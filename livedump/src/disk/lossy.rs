//! A disk with unreadable sectors.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::{Progress, ReadAt};

/// Bytes that are read at once; after an error, sectors.
const PIECE: u64 = 1 << 20;

/// Size of the smallest sector.
const SECTOR: u64 = 512;

/// A source whose unreadable ranges read as zeros. [`ReadAt::lost`] returns the ranges.
pub struct Lossy {
    source: Arc<dyn ReadAt>,
    lost: Vec<Range<u64>>,
}

impl Lossy {
    /// Reads `range` of `source` once, and finds what cannot be read.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Interrupted`] if `progress` cancels.
    pub fn scan(
        source: Arc<dyn ReadAt>,
        range: Range<u64>,
        progress: &dyn Progress,
    ) -> io::Result<Self> {
        let mut lost: Vec<Range<u64>> = Vec::new();
        let mut buf = vec![0; PIECE as usize];
        let mut at = range.start;
        while at < range.end {
            if progress.cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = PIECE.min(range.end - at);
            if source.read_full_at(&mut buf[..n as usize], at).is_err() {
                for sector in (at..at + n).step_by(SECTOR as usize) {
                    let end = (sector + SECTOR).min(at + n);
                    let buf = &mut buf[..(end - sector) as usize];
                    if source.read_full_at(buf, sector).is_ok() {
                        continue;
                    }
                    match lost.last_mut() {
                        Some(last) if last.end == sector => last.end = end,
                        _ => lost.push(sector..end),
                    }
                }
            }
            progress.advance(n, n);
            at += n;
        }
        Ok(Self { source, lost })
    }

    /// Number of unreadable bytes.
    pub fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|range| range.end - range.start).sum()
    }
}

impl ReadAt for Lossy {
    fn size(&self) -> io::Result<u64> {
        self.source.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let next = self.lost.partition_point(|range| range.end <= offset);
        let until = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
        match self.lost.get(next) {
            Some(range) if range.start <= offset => {
                let n = buf.len().min(until(range.end));
                buf[..n].fill(0);
                Ok(n)
            }
            Some(range) => {
                let n = buf.len().min(until(range.start));
                self.source.read_at(&mut buf[..n], offset)
            }
            None => self.source.read_at(buf, offset),
        }
    }

    fn lost(&self) -> Vec<Range<u64>> {
        self.lost.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_compress::NoProgress;

    /// 3 MiB of ones, of which two sectors cannot be read.
    struct Bad;

    impl ReadAt for Bad {
        fn size(&self) -> io::Result<u64> {
            Ok(3 << 20)
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let end = offset + buf.len() as u64;
            if offset < (1 << 20) + 1024 && end > 1 << 20 {
                return Err(io::Error::other("bad sector"));
            }
            buf.fill(1);
            Ok(buf.len())
        }
    }

    #[test]
    fn unreadable_sectors_are_lost_and_the_rest_is_read() {
        let lossy = Lossy::scan(Arc::new(Bad), 0..3 << 20, &NoProgress).unwrap();
        assert_eq!(lossy.lost(), vec![1 << 20..(1 << 20) + 1024]);
        assert_eq!(lossy.lost_bytes(), 1024);
        let mut buf = vec![9; 4096];
        lossy.read_exact_at(&mut buf, (1 << 20) - 512).unwrap();
        assert!(buf[..512].iter().all(|b| *b == 1));
        assert!(buf[512..1536].iter().all(|b| *b == 0));
        assert!(buf[1536..].iter().all(|b| *b == 1));
    }
}
