//! The file through which a guest shares its memory, as physical memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use livecore_defs::amd64::PAGE_SIZE;
use rustix::fs::OFlags;

use livecore_minidump::check_ranges;
use livecore_minidump::{PhysAddr, PhysMemory};

/// The file of a memory backend. Its contents change while the guest runs.
#[derive(Debug)]
pub struct SharedRam {
    file: File,
    ranges: Vec<Range<PhysAddr>>,
    /// The file offset of each range.
    offsets: Vec<u64>,
}

impl SharedRam {
    /// Opens the file at `path`, whose pieces have guest addresses. All pieces must be in the file;
    /// their complete pages are memory.
    ///
    /// # Errors
    ///
    /// The system's error, [`io::ErrorKind::InvalidInput`] if it is not a regular file,
    /// [`io::ErrorKind::UnexpectedEof`] if it is shorter than its parts.
    pub fn open(path: impl AsRef<Path>, pieces: &[(Range<PhysAddr>, u64)]) -> io::Result<Self> {
        let path = path.as_ref();
        // The path comes from QEMU; do not block on a pipe.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let len = metadata.len();
        for (range, offset) in pieces {
            let piece = range.end.0.saturating_sub(range.start.0);
            if offset.saturating_add(piece) > len {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "memory at {:#x}: found a file of {len:#x} bytes, expected {piece:#x} bytes at \
                         offset {offset:#x}",
                        range.start,
                    ),
                ));
            }
        }
        let whole = pieces.iter().filter_map(|(range, offset)| {
            let start = range.start.0.checked_next_multiple_of(PAGE_SIZE)?;
            let (start, end) = (PhysAddr(start), range.end.align_down(PAGE_SIZE));
            // Within the piece, which is within the file.
            (start < end).then(|| (start..end, offset + (start.0 - range.start.0)))
        });
        let (ranges, offsets) = whole.unzip();
        Ok(Self {
            file,
            ranges,
            offsets,
        })
    }
}

impl PhysMemory for SharedRam {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, mut at: PhysAddr, mut buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, at, buf.len())?;
        while !buf.is_empty() {
            let index = self.ranges.partition_point(|range| range.end <= at);
            // `check` has found every byte of it in a range.
            let inside = at.0 - self.ranges[index].start.0;
            let n = (self.ranges[index].end.0 - at.0).min(buf.len() as u64) as usize;
            let (now, rest) = buf.split_at_mut(n);
            self.file.read_exact_at(now, self.offsets[index] + inside)?;
            at = at.wrapping_add(n as u64);
            buf = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_backends_offsets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..4u8).flat_map(|page| [page; 4096]).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let ram = SharedRam::open(
            file.path(),
            &[
                (PhysAddr(0)..PhysAddr(0x2000), 0),
                (PhysAddr(0x10_0000)..PhysAddr(0x10_1000), 0x3000),
                (PhysAddr(0x10_1000)..PhysAddr(0x10_2000), 0x2000),
            ],
        )
        .unwrap();
        let mut page = [9; 4096];
        ram.read(PhysAddr(0x10_0800), &mut page).unwrap();
        assert_eq!((page[0x7ff], page[0x800]), (3, 2));
        let hole = ram.read(PhysAddr(0x1fff), &mut page).unwrap_err();
        assert_eq!(hole.kind(), io::ErrorKind::NotFound);
        // Incomplete pages are not memory.
        let odd = [
            (PhysAddr(0x800)..PhysAddr(0x2800), 0x800),
            (PhysAddr(0x3200)..PhysAddr(0x3300), 0),
        ];
        let odd = SharedRam::open(file.path(), &odd).unwrap();
        assert_eq!(odd.ranges(), [PhysAddr(0x1000)..PhysAddr(0x2000)]);
        odd.read(PhysAddr(0x1000), &mut page).unwrap();
        assert_eq!((page[0], page[4095]), (1, 1));
        let short =
            SharedRam::open(file.path(), &[(PhysAddr(0)..PhysAddr(0x5000), 0)]).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn other_kinds_of_files_are_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        for path in [&*pipe, dir.path(), Path::new("/dev/zero")] {
            let error = SharedRam::open(path, &[(PhysAddr(0)..PhysAddr(0x1000), 0)]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }
}
