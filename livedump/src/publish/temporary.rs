//! A file that is there only until it has its name.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::PublishError;
use super::cleanup::unfinished;
use super::directory::Directory;

/// Locks a temporary file that has just been made: what is locked is in use. `false` if it has been
/// taken for a leftover meanwhile.
fn claim(file: &OwnedFd) -> bool {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => false,
        // A file system that cannot lock is used without.
        Err(_) => true,
        Ok(()) => rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0),
    }
}

/// Removes the temporary files that runs left in `directory` which could not: those of this user
/// that no process has locked. Returns a sentence for each.
pub(super) fn sweep(directory: &Directory) -> Vec<String> {
    let Ok(entries) = Dir::read_from(&*directory.fd) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_str().ok()?;
        Directory::is_temporary_name(name).then(|| name.to_owned())
    });
    names
        .filter(|name| remove_leftover(directory, name))
        .map(|name| format!("removed {name}, which a run that was killed had left"))
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

/// A file under a temporary name, locked. Dropped, it is gone.
#[derive(Debug)]
pub struct Temporary {
    directory: Directory,
    name: String,
    file: Arc<File>,
    named: bool,
}

impl Temporary {
    /// Creates a new file with exactly `mode` in `directory`.
    pub fn create(directory: &Directory, mode: u32) -> Result<Self, PublishError> {
        let mode = Mode::from_raw_mode(mode as rustix::fs::RawMode);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // The list is held over the creation: a signal finds the name in it, or no file.
        let mut unfinished = unfinished();
        let (name, fd) = loop {
            let name = Directory::temporary_name();
            match rustix::fs::openat(&*directory.fd, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) if claim(&fd) => break (name, fd),
                // A process that removes leftovers was faster.
                Ok(_) => {}
                Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(PublishError::from_io(
                        "create",
                        directory.path.join(name),
                        errno.into(),
                    ));
                }
            }
        };
        unfinished.add(directory, &name);
        drop(unfinished);
        let temporary = Self {
            directory: directory.clone(),
            name,
            file: Arc::new(File::from(fd)),
            named: true,
        };
        // The umask had its say at creation.
        rustix::fs::fchmod(temporary.file(), mode)
            .map_err(|e| PublishError::from_io("chmod", temporary.path(), e.into()))?;
        Ok(temporary)
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The temporary path, for messages.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    /// Makes the content durable.
    pub fn sync(&self) -> Result<(), PublishError> {
        self.file
            .sync_all()
            .map_err(|e| PublishError::from_io("sync", self.path(), e))
    }

    /// Gives the file its name, whatever stood there.
    pub fn rename(mut self, to: &str) -> Result<(), PublishError> {
        self.directory
            .rename(&self.name, to)
            .map_err(|e| PublishError::from_io("rename to", self.directory.path.join(to), e))?;
        self.forget();
        Ok(())
    }

    /// Gives the file its name if nothing of that name is there; `false` if something is.
    pub fn link(&mut self, to: &str) -> Result<bool, PublishError> {
        let fd = &*self.directory.fd;
        let failed = |e: rustix::io::Errno, directory: &Directory| {
            PublishError::from_io("link to", directory.path.join(to), e.into())
        };
        match rustix::fs::linkat(fd, &self.name, fd, to, AtFlags::empty()) {
            Ok(()) => {
                self.remove();
                return Ok(true);
            }
            Err(Errno::EXIST) => return Ok(false),
            // A file system without hard links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {}
            Err(errno) => return Err(failed(errno, &self.directory)),
        }
        // Then an empty file claims the name and is renamed over.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(fd, to, flags, Mode::RUSR | Mode::WUSR) {
            Ok(_) => {}
            Err(Errno::EXIST) => return Ok(false),
            Err(errno) => return Err(failed(errno, &self.directory)),
        }
        if let Err(errno) = rustix::fs::renameat(fd, &self.name, fd, to) {
            let _ = self.directory.remove(to);
            return Err(failed(errno, &self.directory));
        }
        self.forget();
        Ok(true)
    }

    /// The file itself, without its name.
    pub(crate) fn into_file(mut self) -> Arc<File> {
        self.remove();
        self.file.clone()
    }

    /// Leaves the name to somebody else for a while: signals do not remove it meanwhile.
    pub(crate) fn lend(&self) -> Lent<'_> {
        unfinished().forget(&self.directory, &self.name);
        Lent(self)
    }

    /// Takes the name away now. The open file lives on, and goes when it is closed.
    pub fn remove(&mut self) {
        if self.named {
            let _ = self.directory.remove(&self.name);
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.named = false;
        unfinished().forget(&self.directory, &self.name);
    }
}

/// A name that is somebody else's for a while ([`Temporary::lend`]).
pub(crate) struct Lent<'a>(&'a Temporary);

impl Lent<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.0.directory
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        unfinished().add(&self.0.directory, &self.0.name);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}
