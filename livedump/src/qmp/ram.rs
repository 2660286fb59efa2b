//! The file that a guest shares its memory through, as physical memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::PhysMemory;
use crate::image::raw::check;

/// A memory backend's file. What it holds changes while the guest runs.
#[derive(Debug)]
pub struct SharedRam {
    file: File,
    ranges: Vec<Range<u64>>,
    /// Where each range begins in the file.
    offsets: Vec<u64>,
}

impl SharedRam {
    /// The file at `path`, whose parts lie at guest addresses. Every part has to be in the file.
    pub fn open(path: &Path, pieces: &[(Range<u64>, u64)]) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        for (range, offset) in pieces {
            if offset.saturating_add(range.end - range.start) > len {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "memory at {:#x}: found a file of {len:#x} bytes, expected {:#x} at offset \
                         {offset:#x}",
                        range.start,
                        range.end - range.start,
                    ),
                ));
            }
        }
        Ok(Self {
            file,
            ranges: pieces.iter().map(|(range, _)| range.clone()).collect(),
            offsets: pieces.iter().map(|(_, offset)| *offset).collect(),
        })
    }
}

impl PhysMemory for SharedRam {
    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn read(&self, mut at: u64, mut buf: &mut [u8]) -> io::Result<()> {
        check(&self.ranges, at, buf.len())?;
        while !buf.is_empty() {
            let index = self.ranges.partition_point(|range| range.end <= at);
            // `check` has found every byte of it in a range.
            let inside = at - self.ranges[index].start;
            let n = (self.ranges[index].end - at).min(buf.len() as u64) as usize;
            let (now, rest) = buf.split_at_mut(n);
            self.file.read_exact_at(now, self.offsets[index] + inside)?;
            at += n as u64;
            buf = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_where_the_backend_has_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..4u8).flat_map(|page| [page; 4096]).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let ram = SharedRam::open(
            file.path(),
            &[
                (0..0x2000, 0),
                (0x10_0000..0x10_1000, 0x3000),
                (0x10_1000..0x10_2000, 0x2000),
            ],
        )
        .unwrap();
        let mut page = [9; 4096];
        ram.read(0x10_0800, &mut page).unwrap();
        assert_eq!((page[0x7ff], page[0x800]), (3, 2));
        let hole = ram.read(0x1fff, &mut page).unwrap_err();
        assert_eq!(hole.kind(), io::ErrorKind::NotFound);
        let short = SharedRam::open(file.path(), &[(0..0x5000, 0)]).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }
}
