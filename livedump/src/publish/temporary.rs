//! A temporary file, removed unless it is renamed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::cleanup::unfinished;
use super::directory::Directory;
use super::{Notice, PublishError};
use crate::sys::unnamed;

/// Locks a temporary file that has just been made: what is locked is in use. `false` if another
/// process has locked it. A file system that cannot lock is used without.
fn claim(file: &OwnedFd) -> bool {
    let lock = FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(file, lock) != Err(Errno::WOULDBLOCK)
}

/// Whether a file still has its name: it was not taken for a leftover before it was locked.
fn is_there(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

/// Removes temporary files that earlier runs left in `directory`: those of this user that no
/// process has locked. Returns a note for each.
pub(super) fn sweep(directory: &Directory) -> Vec<Notice> {
    let Ok(entries) = Dir::read_from(&*directory.fd) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_str().ok()?;
        Directory::is_temporary_name(name).then(|| name.to_owned())
    });
    names
        .filter(|name| remove_leftover(directory, name))
        .map(|name| Notice::LeftoverRemoved { name })
        .collect()
}

fn remove_leftover(directory: &Directory, name: &str) -> bool {
    let fd = &*directory.fd;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(fd, name, flags, Mode::empty()) else {
        return false;
    };
    let is_ours = rustix::fs::fstat(&file).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == rustix::process::geteuid().as_raw()
    });
    is_ours
        && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        && rustix::fs::unlinkat(fd, name, AtFlags::empty()).is_ok()
}

/// A file that is locked and has no name, or a temporary one where the system has no files without.
/// Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Temporary {
    directory: Directory,
    /// The temporary name.
    name: Option<String>,
    file: Arc<File>,
    /// What it becomes, for messages.
    target: PathBuf,
}

impl Temporary {
    /// Creates a new file with exactly `mode` in `directory`, which becomes `target`.
    ///
    /// # Errors
    ///
    /// [`PublishError`] about `target`.
    pub(crate) fn create(
        directory: &Directory,
        mode: u32,
        target: impl Into<PathBuf>,
    ) -> Result<Self, PublishError> {
        match unnamed::create(&directory.fd) {
            Some(fd) => {
                // The lock is for the time between two names, when it is renamed over an old file.
                claim(&fd);
                Self::of_file(directory, None, fd, mode, target.into())
            }
            None => Self::create_named(directory, mode, target),
        }
    }

    /// The same under a temporary name.
    ///
    /// # Errors
    ///
    /// [`PublishError`] about `target`.
    pub(crate) fn create_named(
        directory: &Directory,
        mode: u32,
        target: impl Into<PathBuf>,
    ) -> Result<Self, PublishError> {
        let target = target.into();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // The list is locked during the creation, so that a signal finds the name in it or no file.
        let mut unfinished = unfinished();
        let (name, fd) = loop {
            let name = Directory::temporary_name();
            match rustix::fs::openat(&*directory.fd, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) if claim(&fd) && is_there(&fd) => break (name, fd),
                // Another process has removed it as a leftover; try again.
                Ok(_) => {}
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(PublishError::from_io("create", target, errno.into())),
            }
        };
        unfinished.add(directory, &name);
        drop(unfinished);
        Self::of_file(directory, Some(name), fd, mode, target)
    }

    fn of_file(
        directory: &Directory,
        name: Option<String>,
        fd: OwnedFd,
        mode: u32,
        target: PathBuf,
    ) -> Result<Self, PublishError> {
        let temporary = Self {
            directory: directory.clone(),
            name,
            file: Arc::new(File::from(fd)),
            target,
        };
        // The umask was applied at creation.
        let mode = Mode::from_raw_mode(mode as rustix::fs::RawMode);
        rustix::fs::fchmod(temporary.file(), mode).map_err(|e| {
            PublishError::from_io("change the mode of", temporary.target(), e.into())
        })?;
        Ok(temporary)
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The open file, for a reader that outlives this value.
    pub(crate) fn shared(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The directory that it is in.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What it becomes, for messages.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Sets the name in its directory that it becomes.
    pub(super) fn set_name(&mut self, name: &str) {
        self.target = self.directory.path.join(name);
    }

    /// Syncs the file.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the file cannot be synced.
    pub(crate) fn sync(&self) -> Result<(), PublishError> {
        self.file
            .sync_all()
            .map_err(|e| PublishError::from_io("sync", self.target(), e))
    }

    /// Renames the file, replacing `to`.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the file cannot be renamed.
    pub(crate) fn rename(mut self, to: impl AsRef<OsStr>) -> Result<(), PublishError> {
        let to = to.as_ref();
        if self.name.is_none() && self.link(to)? {
            return Ok(());
        }
        self.take_temporary_name()?;
        if let Some(name) = &self.name {
            self.directory
                .rename(name, to)
                .map_err(|e| PublishError::from_io("rename to", self.directory.path.join(to), e))?;
        }
        self.forget();
        Ok(())
    }

    /// Nothing takes the place of another file but a file with a name.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the file cannot be linked, except that the name exists.
    fn take_temporary_name(&mut self) -> Result<(), PublishError> {
        if self.name.is_some() {
            return Ok(());
        }
        // The list stays locked meanwhile: a signal handler finds the name in the list, or no file.
        let mut unfinished = unfinished();
        let name = loop {
            let name = Directory::temporary_name();
            match unnamed::name(&*self.file, &self.directory.fd, name.as_ref()) {
                Ok(()) => break name,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(PublishError::from_io("link to", self.target(), e)),
            }
        };
        unfinished.add(&self.directory, &name);
        self.name = Some(name);
        Ok(())
    }

    /// Renames the file unless `to` exists; returns `false` then.
    ///
    /// # Errors
    ///
    /// [`PublishError`] about `to`.
    pub(crate) fn link(&mut self, to: impl AsRef<OsStr>) -> Result<bool, PublishError> {
        let to = to.as_ref();
        let fd = &*self.directory.fd;
        let failed = |e: io::Error, directory: &Directory| {
            PublishError::from_io("link to", directory.path.join(to), e)
        };
        let Some(name) = &self.name else {
            return match unnamed::name(&*self.file, fd, to) {
                Ok(()) => Ok(true),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(e) => Err(failed(e, &self.directory)),
            };
        };
        match rustix::fs::linkat(fd, name.as_str(), fd, to, AtFlags::empty()) {
            Ok(()) => {
                self.remove();
                return Ok(true);
            }
            Err(Errno::EXIST) => return Ok(false),
            // The file system does not support hard links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {}
            Err(errno) => return Err(failed(errno.into(), &self.directory)),
        }
        // Claim the name with an empty file, then rename over it.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(fd, to, flags, Mode::RUSR | Mode::WUSR) {
            Ok(_) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(failed(errno.into(), &self.directory)),
        }
        if let Err(errno) = rustix::fs::renameat(fd, name.as_str(), fd, to) {
            let _ = self.directory.remove(to);
            return Err(failed(errno.into(), &self.directory));
        }
        self.forget();
        Ok(true)
    }

    /// The open file; its name is removed.
    pub(crate) fn into_file(mut self) -> Arc<File> {
        self.remove();
        self.file.clone()
    }

    /// Leaves the temporary name, if there is one, to another process for a while: signals do not remove
    /// it meanwhile.
    pub(crate) fn lend(&self) -> Option<Lent<'_>> {
        let name = self.name.as_deref()?;
        let directory = &self.directory;
        unfinished().forget(directory, name);
        Some(Lent { directory, name })
    }

    /// Takes the temporary name away now. The open file lives on, and goes when it is closed.
    pub(crate) fn remove(&mut self) {
        if let Some(name) = &self.name {
            let _ = self.directory.remove(name);
            self.forget();
        }
    }

    fn forget(&mut self) {
        if let Some(name) = self.name.take() {
            unfinished().forget(&self.directory, &name);
        }
    }
}

/// A temporary name that is another process's for a while ([`Temporary::lend`]).
pub(crate) struct Lent<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) name: &'a str,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        unfinished().add(self.directory, self.name);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}
