//! Disks with dumps of crashed systems: devices and images.
//!
//! A disk device reads and writes whole sectors only. [`Disk`] reads any range, and rewrites one sector:
//! the one whose header marks a dump as saved.

mod fstab;
mod lossy;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use livecore_compress::ReadAt;
use livecore_defs::kerneldump::SIZE;

use crate::sys::disk::{Geometry, geometry};

pub use fstab::dump_devices;
pub use lossy::Lossy;

/// Bytes of a device that are read at once to align a read.
const PIECE: usize = 1 << 20;

/// The largest sector in bytes.
const SECTOR_MAX: u64 = 1 << 16;

/// An open disk, or its image in a file.
#[derive(Debug)]
pub struct Disk {
    file: File,
    size: u64,
    geometry: Option<Geometry>,
}

impl Disk {
    /// Opens the device or the image `path`, also for [`Disk::rewrite`] if `writable`.
    ///
    /// # Errors
    ///
    /// The system's error; [`io::ErrorKind::Unsupported`] if `path` is neither a disk nor a regular file.
    pub fn open(path: impl AsRef<Path>, writable: bool) -> io::Result<Self> {
        let path = path.as_ref();
        // Opening a named pipe would block.
        let kind = path.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let is_device = kind.is_block_device() || kind.is_char_device();
        if !is_device && !kind.is_file() {
            return Err(not_a_disk());
        }
        let file = OpenOptions::new().read(true).write(writable).open(path)?;
        if !is_device {
            return Ok(Self {
                size: file.metadata()?.len(),
                geometry: None,
                file,
            });
        }
        let found = geometry(&file).map_err(|e| match kind.is_block_device() {
            true => e,
            // A terminal, or /dev/null.
            false => not_a_disk(),
        })?;
        let sector = u64::from(found.sector);
        if !sector.is_power_of_two() || !(SIZE as u64..=SECTOR_MAX).contains(&sector) {
            let what = format!("sectors of {sector} bytes; expected {SIZE} to {SECTOR_MAX}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        Ok(Self {
            size: found.size,
            geometry: Some(found),
            file,
        })
    }

    /// The sector size in bytes; `None` for an image, which does not state it.
    pub fn sector(&self) -> Option<u64> {
        self.geometry.map(|geometry| geometry.sector.into())
    }

    /// Whether it is a device, not an image.
    pub fn is_device(&self) -> bool {
        self.geometry.is_some()
    }

    /// Replaces the first bytes `old` of the sector at `at`, of `sector` bytes, by `new`, and syncs the
    /// disk. Returns `false` and writes nothing if the sector does not begin with `old`.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn rewrite(
        &self,
        at: u64,
        sector: u64,
        old: &[u8; SIZE],
        new: &[u8; SIZE],
    ) -> io::Result<bool> {
        let len = sector.clamp(SIZE as u64, SECTOR_MAX);
        let mut bytes = vec![0; len as usize]; // at most SECTOR_MAX
        self.read_exact_at(&mut bytes, at)?;
        if !bytes.starts_with(old) {
            return Ok(false);
        }
        bytes[..SIZE].copy_from_slice(new);
        self.file.write_all_at(&bytes, at)?;
        match self.file.sync_all() {
            // Not every driver supports it for a device.
            Err(e)
                if self.is_device()
                    && matches!(
                        e.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                    ) =>
            {
                Ok(true)
            }
            other => other.map(|()| true),
        }
    }

    /// Reads whole sectors around a range of a device.
    fn read_aligned(&self, buf: &mut [u8], offset: u64, sector: u64) -> io::Result<usize> {
        let start = offset / sector * sector;
        let skip = (offset - start) as usize; // less than a sector
        let want = (skip + buf.len()).next_multiple_of(sector as usize);
        let left = self.size.saturating_sub(start);
        let want = want.min(PIECE).min(usize::try_from(left).unwrap_or(PIECE));
        let mut bytes = vec![0; want];
        let got = FileExt::read_at(&self.file, &mut bytes, start)?;
        let part = bytes[..got].get(skip..).unwrap_or_default();
        let n = part.len().min(buf.len());
        buf[..n].copy_from_slice(&part[..n]);
        Ok(n)
    }
}

/// The open device, or the open image.
impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn not_a_disk() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "neither a disk device nor a regular file",
    )
}

impl ReadAt for Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.size || buf.is_empty() {
            return Ok(0);
        }
        let Some(sector) = self.sector() else {
            return ReadAt::read_at(&self.file, buf, offset);
        };
        let is_aligned = offset.is_multiple_of(sector) && buf.len().is_multiple_of(sector as usize);
        let left = self.size - offset;
        if is_aligned && buf.len() as u64 <= left {
            return FileExt::read_at(&self.file, buf, offset);
        }
        self.read_aligned(buf, offset, sector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 64 KiB with sectors of 512 bytes, in a file.
    fn disk() -> (tempfile::NamedTempFile, Disk) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..65536_u32).map(|i| (i / 512 + i) as u8).collect();
        std::fs::write(file.path(), bytes).unwrap();
        let disk = Disk {
            geometry: Some(Geometry {
                size: 65536,
                sector: 512,
            }),
            ..Disk::open(file.path(), true).unwrap()
        };
        (file, disk)
    }

    #[test]
    fn any_range_of_a_device_is_read_by_whole_sectors() {
        let (file, disk) = disk();
        let bytes = std::fs::read(file.path()).unwrap();
        for (offset, len) in [
            (0, 1),
            (511, 2),
            (513, 511),
            (512, 1024),
            (65535, 10),
            (60000, 9000),
        ] {
            let mut buf = vec![0; len];
            let got = disk.read_full_at(&mut buf, offset as u64).unwrap();
            assert_eq!(
                buf[..got],
                bytes[offset..(offset + len).min(65536)],
                "{offset}"
            );
            let whole = disk.read_aligned(&mut [0; 7], offset as u64, 512).unwrap();
            assert_eq!(whole, 7.min(65536 - offset), "{offset}");
        }
        assert_eq!(disk.read_at(&mut [0; 9], 65536).unwrap(), 0);
    }

    #[test]
    fn only_the_expected_sector_is_rewritten() {
        let (file, disk) = disk();
        let before = std::fs::read(file.path()).unwrap();
        let old: [u8; SIZE] = before[4096..4608].try_into().unwrap();
        assert!(!disk.rewrite(8192, 4096, &old, &[1; SIZE]).unwrap());
        assert_eq!(std::fs::read(file.path()).unwrap(), before);
        assert!(disk.rewrite(4096, 4096, &old, &[1; SIZE]).unwrap());
        let after = std::fs::read(file.path()).unwrap();
        assert_eq!(after[4096..4608], [1; SIZE]);
        assert_eq!(
            (&after[..4096], &after[4608..]),
            (&before[..4096], &before[4608..])
        );
    }

    #[test]
    fn pipes_and_directories_are_not_disks() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Disk::open(dir.path(), false).is_err());
        let null = Disk::open("/dev/null", false).unwrap_err();
        assert_eq!(null.kind(), io::ErrorKind::Unsupported);
    }
}
