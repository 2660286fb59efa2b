//! An open directory, for operations relative to it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::PublishError;

/// The start of temporary names.
const TEMPORARY: &str = "livecore.tmp.";
const RANDOM: usize = 8;
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Whether root or the user of this process owns a file.
pub(super) fn is_own(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// An open directory. Operations are relative to it, even if its path changes.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) fd: Arc<OwnedFd>,
    /// The path, for messages.
    pub path: PathBuf,
}

impl Directory {
    /// Opens `path`.
    ///
    /// # Errors
    ///
    /// [`PublishError::Directory`] if it does not exist, is not a directory or may not be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PublishError> {
        let path = path.as_ref();
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            PublishError::Directory {
                path: path.into(),
                source: errno.into(),
            }
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.into(),
        })
    }

    /// Whether the name exists, as a dangling link too.
    pub fn has(&self, name: impl AsRef<OsStr>) -> bool {
        rustix::fs::statat(&*self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The first `limit` bytes of a file.
    ///
    /// # Errors
    ///
    /// The system's error for the file.
    pub fn head(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&*self.fd, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limit as u64), &mut bytes)?;
        Ok(bytes)
    }

    /// Removes a name, which may be missing.
    ///
    /// # Errors
    ///
    /// The system's error, except that there is no such file.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        match rustix::fs::unlinkat(&*self.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Renames a file, replacing `to`.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        Ok(rustix::fs::renameat(&*self.fd, from, &*self.fd, to)?)
    }

    /// Whether only root and the user of this process can create files in it.
    pub(super) fn is_trusted(&self) -> bool {
        rustix::fs::fstat(&*self.fd).is_ok_and(|stat| {
            is_own(stat.st_uid) && Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o022 == 0
        })
    }

    /// Locks the directory among processes that lock it (flock(2)), until it is closed. Returns
    /// `false` if another process still has the lock after `wait`. If the file system does not
    /// support locks, none is used.
    pub fn lock(&self, wait: Duration) -> bool {
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&*self.fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if begun.elapsed() < wait => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => return false,
                Err(Errno::INTR) => {}
                Ok(()) | Err(_) => return true,
            }
        }
    }

    /// Syncs the directory.
    ///
    /// # Errors
    ///
    /// [`PublishError::Io`] if the sync fails.
    pub fn sync(&self) -> Result<(), PublishError> {
        #[cfg(test)]
        if let Some(errno) = fault::next_sync() {
            return Err(PublishError::from_io("sync", &self.path, errno.into()));
        }
        match rustix::fs::fsync(&*self.fd) {
            // Some file systems do not support it for directories.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(PublishError::from_io("sync", &self.path, errno.into())),
        }
    }

    /// Makes `name` a symbolic link to `target`, atomically if it was a link.
    pub(super) fn symlink(&self, target: &str, name: &str) -> io::Result<()> {
        let temporary = Self::temporary_name();
        rustix::fs::symlinkat(target, &*self.fd, &temporary)?;
        self.rename(&temporary, name).inspect_err(|_| {
            let _ = self.remove(&temporary);
        })
    }

    /// The target of a symbolic link; `None` if it does not exist.
    pub(super) fn link_target(&self, name: &str) -> Option<CString> {
        rustix::fs::readlinkat(&*self.fd, name, Vec::new()).ok()
    }

    /// A temporary name like savecore(8)'s `livecore.tmp.XXXXXX`, with two more letters.
    pub(super) fn temporary_name() -> String {
        let mut random = RandomState::new().hash_one(std::process::id());
        let mut name = String::from(TEMPORARY);
        for _ in 0..RANDOM {
            name.push(char::from(LETTERS[(random % 32) as usize]));
            random /= 32;
        }
        name
    }

    /// Whether `name` is a temporary name.
    pub(super) fn is_temporary_name(name: &str) -> bool {
        name.strip_prefix(TEMPORARY).is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|byte| LETTERS.contains(&byte))
        })
    }
}

/// Faults for tests.
#[cfg(test)]
pub(super) mod fault {
    use std::cell::Cell;

    use rustix::io::Errno;

    thread_local! {
        static SYNCS: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Makes the sync after the next `good` ones fail, on this thread.
    pub(in crate::publish) fn fail_sync_after(good: u32) {
        SYNCS.set(Some(good));
    }

    /// The error of the next sync, if it is to fail.
    pub(super) fn next_sync() -> Option<Errno> {
        let left = SYNCS.get()?;
        SYNCS.set(left.checked_sub(1));
        (left == 0).then_some(Errno::IO)
    }
}
