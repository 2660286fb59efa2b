//! A directory that is open, and what is done in it by name.

use std::ffi::CString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::PublishError;

/// A directory that is open: everything happens relative to it, whatever becomes of its path.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) fd: Arc<OwnedFd>,
    /// Its path as the caller said it, for people.
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

    /// Whether something of that name is there, a dangling link included.
    pub fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The first `limit` bytes of a file, if it can be read.
    pub fn head(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&*self.fd, name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limit as u64), &mut bytes)?;
        Ok(bytes)
    }

    /// Removes a name; that it is not there is no error.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&*self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives one name to what has another, whatever stood there.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&*self.fd, from, &*self.fd, to)?)
    }

    /// Makes the names durable.
    pub fn sync(&self) -> Result<(), PublishError> {
        match rustix::fs::fsync(&*self.fd) {
            // Some file systems have no such thing for directories.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(errno) => Err(PublishError::from_io("sync", &self.path, errno.into())),
        }
    }

    /// Makes `name` a symbolic link to `target`, in one step if it was one already.
    pub(super) fn symlink(&self, target: &str, name: &str) -> io::Result<()> {
        let temporary = Self::temporary_name();
        rustix::fs::symlinkat(target, &*self.fd, &temporary)?;
        self.rename(&temporary, name).inspect_err(|_| {
            let _ = self.remove(&temporary);
        })
    }

    /// Where a symbolic link points; `None` if there is none of that name.
    pub(super) fn link_target(&self, name: &str) -> Option<CString> {
        rustix::fs::readlinkat(&*self.fd, name, Vec::new()).ok()
    }

    /// A name of the pattern `livecore.tmp.XXXXXX` that savecore(8) uses too.
    pub(super) fn temporary_name() -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut random = RandomState::new().hash_one(std::process::id());
        let mut name = String::from("livecore.tmp.");
        for _ in 0..8 {
            name.push(char::from(LETTERS[(random % 32) as usize]));
            random /= 32;
        }
        name
    }
}
