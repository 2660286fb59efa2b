//! Raw memory: a file whose offsets are physical addresses.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use livecore_defs::amd64::PAGE_SIZE;

use livecore_minidump::PhysAddr;
use livecore_minidump::{PhysMemory, PhysMemoryMut, check_ranges, first_outside};

/// Physical memory in a file. Zeros may be holes of the file.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    ranges: Vec<Range<PhysAddr>>,
}

impl RawImage {
    /// Opens the file at `path`: complete pages from address 0 on.
    ///
    /// # Errors
    ///
    /// The system's error for the file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let whole = PhysAddr(0)..PhysAddr(len).align_down(PAGE_SIZE);
        Self::new(file, std::slice::from_ref(&whole))
    }

    /// An open file of which only `ranges` are memory: sorted, disjoint, complete pages.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the ranges are not ascending, disjoint and of whole pages.
    pub fn new(file: File, ranges: &[Range<PhysAddr>]) -> io::Result<Self> {
        let mut floor = PhysAddr(0);
        for range in ranges {
            let whole =
                range.start.offset_in(PAGE_SIZE) == 0 && range.end.offset_in(PAGE_SIZE) == 0;
            if !whole || range.start < floor || range.start > range.end {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "memory range {:#x}..{:#x}: found start or end not on a page boundary or below {floor:#x}, expected complete pages in ascending order",
                        range.start, range.end
                    ),
                ));
            }
            floor = range.end;
        }
        Ok(Self {
            file,
            ranges: ranges.iter().filter(|r| !r.is_empty()).cloned().collect(),
        })
    }

    /// Opens the file at `path` for writing too.
    ///
    /// # Errors
    ///
    /// Those of [`RawImage::new`], and the system's error for the file.
    pub fn open_writable(path: impl AsRef<Path>, ranges: &[Range<PhysAddr>]) -> io::Result<Self> {
        let path = path.as_ref();
        Self::new(File::options().read(true).write(true).open(path)?, ranges)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl PhysMemoryMut for RawImage {
    fn write(&self, at: PhysAddr, bytes: &[u8]) -> io::Result<()> {
        check_ranges(&self.ranges, at, bytes.len())?;
        self.file.write_all_at(bytes, at.0)
    }
}

impl PhysMemory for RawImage {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, at, buf.len())?;
        self.file.read_exact_at(buf, at.0)
    }

    fn known_zero(&self, PhysAddr(at): PhysAddr, len: u64) -> bool {
        if first_outside(&self.ranges, PhysAddr(at), len).is_some() {
            return false;
        }
        // The offset of the next data. This changes the file's position, which is not used.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data >= at + len,
            // A hole up to the end of the file, or a file that has become shorter.
            Err(rustix::io::Errno::NXIO) => self
                .file
                .metadata()
                .is_ok_and(|file| file.len() >= at + len),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_known_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 4096], 32 << 20).unwrap();
        let ranges = [
            PhysAddr(0)..PhysAddr(16 << 20),
            PhysAddr(24 << 20)..PhysAddr(64 << 20),
        ];
        let image = RawImage::new(file, &ranges).unwrap();
        assert!(image.known_zero(PhysAddr(0), 16 << 20));
        assert!(!image.known_zero(PhysAddr(0), (16 << 20) + 1), "not memory");
        assert!(!image.known_zero(PhysAddr(32 << 20), 4096));
        assert!(image.known_zero(PhysAddr(48 << 20), 16 << 20));
        let mut page = [1; 4096];
        image.read(PhysAddr(32 << 20), &mut page).unwrap();
        assert_eq!(page, [7; 4096]);
        let error = image.read(PhysAddr(20 << 20), &mut page).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = image.read(PhysAddr((16 << 20) - 4), &mut page).unwrap_err();
        assert!(error.to_string().contains("0x1000000"), "{error}");
    }

    #[test]
    fn incomplete_last_page_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        std::fs::write(&path, vec![1; 10_000]).unwrap();
        let image = RawImage::open(&path).unwrap();
        assert_eq!(image.ranges(), [PhysAddr(0)..PhysAddr(8192)]);
    }
}
