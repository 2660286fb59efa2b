//! A file that is there only until it has its name.

use std::ffi::CString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::PlaceError;
use crate::sys::signals;

/// Held while names change, so that a signal comes before all of it or after all of it.
static PUBLISHING: Mutex<()> = Mutex::new(());

/// Every temporary file of this process that still has its temporary name.
static NAMES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    directory: Arc<OwnedFd>,
    name: String,
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    // The data is a list of names; a panic elsewhere does not make it wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters the section in which names change.
pub(super) fn publishing() -> MutexGuard<'static, ()> {
    lock(&PUBLISHING)
}

/// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT remove all temporary files and end the process with
/// 128 + the signal's number. A signal that was ignored when the process began stays ignored
/// (nohup(1)). SIGXFSZ no longer kills: the write fails with EFBIG.
///
/// Called once by a program before it writes; a second call does nothing.
pub fn watch_signals() -> io::Result<()> {
    signals::on_termination(|_signal| {
        // Both guards are kept: nobody may rename or create a file while the process ends.
        std::mem::forget(lock(&PUBLISHING));
        let names = lock(&NAMES);
        for entry in names.iter() {
            sweep(&entry.directory, &entry.name);
        }
        std::mem::forget(names);
        super::private::sweep_all();
    })
}

/// Removes a file, or a directory that is empty.
fn sweep(directory: &OwnedFd, name: &str) {
    if rustix::fs::unlinkat(directory, name, AtFlags::empty()).is_err() {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
    }
}

/// A name that was made elsewhere (a socket's, an empty directory's) and is gone when this is
/// dropped, or when a signal ends the process. Those made first go first.
#[derive(Debug)]
pub struct Passing {
    directory: Directory,
    name: String,
}

impl Passing {
    /// Takes care of `name` in `directory` from now on.
    pub fn new(directory: &Directory, name: &str) -> Self {
        lock(&NAMES).push(Entry {
            directory: directory.fd.clone(),
            name: name.to_owned(),
        });
        Self {
            directory: directory.clone(),
            name: name.to_owned(),
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let mut names = lock(&NAMES);
        sweep(&self.directory.fd, &self.name);
        names.retain(|entry| {
            entry.name != self.name || !Arc::ptr_eq(&entry.directory, &self.directory.fd)
        });
    }
}

/// A directory that is open: everything happens relative to it, whatever becomes of its path.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) fd: Arc<OwnedFd>,
    /// Its path as the caller said it, for people.
    pub path: PathBuf,
}

impl Directory {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self, PlaceError> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            PlaceError::Directory {
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
    pub fn sync(&self) -> Result<(), PlaceError> {
        match rustix::fs::fsync(&*self.fd) {
            // Some file systems have no such thing for directories.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(errno) => Err(PlaceError::from_io("sync", &self.path, errno.into())),
        }
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

/// A file under a temporary name. Dropped, it is gone.
#[derive(Debug)]
pub struct Temporary {
    directory: Directory,
    name: String,
    file: Arc<File>,
    named: bool,
}

impl Temporary {
    /// Creates a new file with exactly `mode` in `directory`.
    pub fn create(directory: &Directory, mode: u32) -> Result<Self, PlaceError> {
        let mode = Mode::from_raw_mode(mode as rustix::fs::RawMode);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // The list is held over the creation: a signal finds the name in it, or no file.
        let mut names = lock(&NAMES);
        let (name, fd) = loop {
            let name = Directory::temporary_name();
            match rustix::fs::openat(&*directory.fd, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => break (name, fd),
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => {
                    return Err(PlaceError::from_io(
                        "create",
                        directory.path.join(name),
                        errno.into(),
                    ));
                }
            }
        };
        names.push(Entry {
            directory: directory.fd.clone(),
            name: name.clone(),
        });
        drop(names);
        let temporary = Self {
            directory: directory.clone(),
            name,
            file: Arc::new(File::from(fd)),
            named: true,
        };
        // The umask had its say at creation.
        rustix::fs::fchmod(temporary.file(), mode)
            .map_err(|e| PlaceError::from_io("chmod", temporary.path(), e.into()))?;
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
    pub fn sync(&self) -> Result<(), PlaceError> {
        self.file
            .sync_all()
            .map_err(|e| PlaceError::from_io("sync", self.path(), e))
    }

    /// Gives the file its name, whatever stood there.
    pub fn rename(mut self, to: &str) -> Result<(), PlaceError> {
        self.directory
            .rename(&self.name, to)
            .map_err(|e| PlaceError::from_io("rename to", self.directory.path.join(to), e))?;
        self.forget();
        Ok(())
    }

    /// Gives the file its name if nothing of that name is there; `false` if something is.
    pub fn link(&mut self, to: &str) -> Result<bool, PlaceError> {
        let fd = &*self.directory.fd;
        let failed = |e: rustix::io::Errno, directory: &Directory| {
            PlaceError::from_io("link to", directory.path.join(to), e.into())
        };
        match rustix::fs::linkat(fd, &self.name, fd, to, AtFlags::empty()) {
            Ok(()) => {
                self.remove();
                return Ok(true);
            }
            Err(rustix::io::Errno::EXIST) => return Ok(false),
            // A file system without hard links.
            Err(
                rustix::io::Errno::PERM | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::MLINK,
            ) => {}
            Err(errno) => return Err(failed(errno, &self.directory)),
        }
        // Then an empty file claims the name and is renamed over.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(fd, to, flags, Mode::RUSR | Mode::WUSR) {
            Ok(_) => {}
            Err(rustix::io::Errno::EXIST) => return Ok(false),
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
        lock(&NAMES).retain(|entry| !self.is(entry));
        Lent(self)
    }

    fn is(&self, entry: &Entry) -> bool {
        entry.name == self.name && Arc::ptr_eq(&entry.directory, &self.directory.fd)
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
        lock(&NAMES).retain(|entry| !self.is(entry));
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
        lock(&NAMES).push(Entry {
            directory: self.0.directory.fd.clone(),
            name: self.0.name.clone(),
        });
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes `name` a symbolic link to `target`, in one step if it was one already.
pub(super) fn symlink(directory: &Directory, target: &str, name: &str) -> io::Result<()> {
    let temporary = Directory::temporary_name();
    rustix::fs::symlinkat(target, &*directory.fd, &temporary)?;
    directory.rename(&temporary, name).inspect_err(|_| {
        let _ = directory.remove(&temporary);
    })
}

/// Where a symbolic link points; `None` if there is none of that name.
pub(super) fn link_target(directory: &Directory, name: &str) -> Option<CString> {
    rustix::fs::readlinkat(&*directory.fd, name, Vec::new()).ok()
}
