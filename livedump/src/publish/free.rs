//! Free disk space, and the part of it that `minfree` reserves.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::StatVfs;

use super::directory::Directory;
use super::{Notice, PublishError};

/// Bytes written between two checks.
const EVERY: u64 = 16 << 20;

/// Free bytes on the file system of `directory`.
pub(crate) fn bytes(directory: &Directory) -> io::Result<u64> {
    let vfs = rustix::fs::fstatvfs(&*directory.fd)?;
    Ok(vfs.f_bfree.saturating_mul(vfs.f_frsize))
}

/// Bytes on the file system of `directory` that any user may write.
///
/// # Errors
///
/// [`PublishError`] if the directory cannot be opened or queried.
pub fn available(directory: impl AsRef<Path>) -> Result<u64, PublishError> {
    let opened = Directory::open(directory)?;
    let vfs = rustix::fs::fstatvfs(&*opened.fd)
        .map_err(|e| PublishError::from_io("get the free space of", &opened.path, e.into()))?;
    Ok(blocks_for_users(&vfs).saturating_mul(vfs.f_frsize))
}

/// Bytes that a dump in `directory` may use: those that are free, without those that `minfree` reserves.
///
/// # Errors
///
/// [`PublishError`] if the directory cannot be opened or queried.
pub fn usable(directory: impl AsRef<Path>) -> Result<u64, PublishError> {
    let opened = Directory::open(directory)?;
    let space = FreeSpace {
        minfree: minfree(&opened, &mut Vec::new()),
        directory: opened,
        unchecked: AtomicU64::new(0),
    };
    Ok(space.available()?.saturating_mul(1024))
}

/// Blocks that any user may write. UFS counts them below zero when root has used its reserve, which
/// is a large number here.
fn blocks_for_users(vfs: &StatVfs) -> u64 {
    if vfs.f_bavail > vfs.f_blocks {
        0
    } else {
        vfs.f_bavail
    }
}

/// A note if a dump of about `expected` bytes may not fit into `directory`. `walked`: the
/// estimate counts the pages that the kernel maps.
///
/// # Errors
///
/// [`PublishError::NotEnoughSpace`] if less is free than `minfree` reserves.
pub(crate) fn check_estimate(
    directory: &Directory,
    expected: u64,
    walked: bool,
    notes: &mut Vec<Notice>,
) -> Result<(), PublishError> {
    let free = FreeSpace::check(directory, 0, notes)?;
    match free.fits(expected) {
        Err(PublishError::NotEnoughSpace {
            path,
            needed,
            available,
            ..
        }) => {
            notes.push(Notice::MayNotFit {
                path,
                available,
                needed,
                walked,
            });
            Ok(())
        }
        other => other,
    }
}

/// Checks the free space of a directory while a dump grows.
#[derive(Debug)]
pub(super) struct FreeSpace {
    directory: Directory,
    minfree: u64,
    unchecked: AtomicU64,
}

impl FreeSpace {
    /// Reads `minfree` and checks that `needed` bytes fit, as far as known. An invalid `minfree` is
    /// ignored with a note.
    pub(super) fn check(
        directory: &Directory,
        needed: u64,
        notes: &mut Vec<Notice>,
    ) -> Result<Self, PublishError> {
        let space = Self {
            directory: directory.clone(),
            minfree: minfree(directory, notes),
            unchecked: AtomicU64::new(0),
        };
        space.fits(needed)?;
        Ok(space)
    }

    /// Records that `written` more bytes were written; checks from time to time.
    pub(super) fn wrote(&self, written: u64) -> Result<(), PublishError> {
        let unchecked = self.unchecked.fetch_add(written, Ordering::Relaxed) + written;
        if self.minfree == 0 || unchecked < EVERY {
            return Ok(());
        }
        self.unchecked.store(0, Ordering::Relaxed);
        self.need(0)
    }

    /// Checks that a dump of `bytes` bytes fits.
    pub(super) fn fits(&self, bytes: u64) -> Result<(), PublishError> {
        // savecore(8)'s figure: the dump, 1 KiB for rounding, 1 KiB for info.N.
        self.need(bytes / 1024 + 2)
    }

    fn need(&self, kib: u64) -> Result<(), PublishError> {
        let free = self.free()?;
        let available = free.saturating_sub(self.minfree);
        if kib > available || free < self.minfree {
            return Err(PublishError::NotEnoughSpace {
                path: self.directory.path.clone(),
                needed: kib,
                available,
                minfree: self.minfree,
            });
        }
        Ok(())
    }

    /// Free KiB without those that `minfree` reserves.
    fn available(&self) -> Result<u64, PublishError> {
        Ok(self.free()?.saturating_sub(self.minfree))
    }

    /// Free KiB.
    fn free(&self) -> Result<u64, PublishError> {
        let vfs = rustix::fs::fstatvfs(&*self.directory.fd).map_err(|e| {
            PublishError::from_io("get the free space of", &self.directory.path, e.into())
        })?;
        // Without minfree, root may use the file system's reserve.
        let blocks = if self.minfree == 0 {
            vfs.f_bfree
        } else {
            blocks_for_users(&vfs)
        };
        let free = u128::from(blocks) * u128::from(vfs.f_frsize) / 1024;
        Ok(u64::try_from(free).unwrap_or(u64::MAX))
    }
}

/// The KiB that the file `minfree` reserves. An invalid file is ignored with a note.
fn minfree(directory: &Directory, notes: &mut Vec<Notice>) -> u64 {
    match directory.head("minfree", 64) {
        Ok(text) => parse_minfree(&text).unwrap_or_else(|| {
            notes.push(Notice::MinfreeIgnored { why: None });
            0
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => {
            let why = Some(e.to_string());
            notes.push(Notice::MinfreeIgnored { why });
            0
        }
    }
}

/// The KiB in the first line of `minfree`: a decimal number and white space.
fn parse_minfree(text: &[u8]) -> Option<u64> {
    let line = text.split(|c| *c == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minfree_is_one_number_in_the_first_line() {
        assert_eq!(parse_minfree(b"2048\n"), Some(2048));
        assert_eq!(parse_minfree(b"2048  \njunk"), Some(2048));
        assert_eq!(parse_minfree(b"-1\n"), None);
        assert_eq!(parse_minfree(b"2048 KiB\n"), None);
        assert_eq!(parse_minfree(b""), None);
    }

    #[test]
    fn blocks_below_zero_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let vfs = rustix::fs::fstatvfs(&*directory.fd).unwrap();
        assert_eq!(blocks_for_users(&vfs), vfs.f_bavail);
        let reserve_used = StatVfs {
            f_bavail: -5_i64 as u64,
            ..vfs
        };
        assert_eq!(blocks_for_users(&reserve_used), 0);
    }

    #[test]
    fn estimate_that_does_not_fit_is_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let mut notes = Vec::new();
        check_estimate(&directory, 1, true, &mut notes).unwrap();
        assert!(notes.is_empty());
        check_estimate(&directory, u64::MAX, true, &mut notes).unwrap();
        let [Notice::MayNotFit { needed, walked, .. }] = &notes[..] else {
            panic!("{notes:?}");
        };
        assert_eq!((*needed, *walked), (u64::MAX / 1024 + 2, true));
    }

    #[test]
    fn minfree_is_checked_before_a_dump_starts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("minfree"), format!("{}\n", u64::MAX / 2048)).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let error = FreeSpace::check(&directory, 4096, &mut Vec::new()).unwrap_err();
        assert!(
            matches!(error, PublishError::NotEnoughSpace { available: 0, .. }),
            "{error}"
        );
        std::fs::write(dir.path().join("minfree"), "lots\n").unwrap();
        let mut notes = Vec::new();
        FreeSpace::check(&directory, 4096, &mut notes).unwrap();
        assert_eq!(notes, [Notice::MinfreeIgnored { why: None }]);
    }
}
