//! What is removed when a signal ends the process: temporary names, directories with what is in
//! them, and the programs that run on those.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::directory::Directory;
use crate::sys::signals;

/// Locked while names change, so that a signal comes before all of it or after all of it.
static PUBLISHING: Mutex<()> = Mutex::new(());

static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished {
    names: Vec::new(),
    trees: Vec::new(),
    programs: Vec::new(),
});

/// What this process would leave behind if it ended now.
pub(super) struct Unfinished {
    /// Every temporary name.
    names: Vec<(Arc<OwnedFd>, OsString)>,
    /// Every private directory.
    pub(super) trees: Vec<PathBuf>,
    /// The programs that run on private directories.
    pub(super) programs: Vec<Pid>,
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    // Lists of names and numbers; a panic elsewhere does not make them wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enters the section in which names change.
pub(super) fn publishing() -> MutexGuard<'static, ()> {
    lock(&PUBLISHING)
}

/// The list, locked: over the creation of what is added to it, a signal finds both or neither.
pub(super) fn unfinished() -> MutexGuard<'static, Unfinished> {
    lock(&UNFINISHED)
}

impl Unfinished {
    /// Adds `name` in `directory`.
    pub(super) fn add(&mut self, directory: &Directory, name: impl Into<OsString>) {
        self.names.push((directory.fd.clone(), name.into()));
    }

    /// Takes `name` off the list.
    pub(super) fn forget(&mut self, directory: &Directory, name: impl AsRef<OsStr>) {
        let name = name.as_ref();
        self.names
            .retain(|(fd, other)| other != name || !Arc::ptr_eq(fd, &directory.fd));
    }
}

/// From now on the signals that end a process (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR2, SIGALRM,
/// SIGVTALRM, SIGXCPU, SIGABRT) remove all temporary files and end it with 128 + the signal's number. A signal that was ignored when the process began stays ignored
/// (nohup(1)). SIGXFSZ no longer kills: the write fails with EFBIG.
///
/// Called once by a program before it writes; a second call does nothing.
///
/// # Errors
///
/// The system's error when a handler or the thread that waits for signals cannot be installed.
pub fn watch_signals() -> io::Result<()> {
    signals::on_termination(|_signal| {
        // Both guards are kept: no file may be renamed or created while the process ends.
        std::mem::forget(publishing());
        let unfinished = unfinished();
        for (directory, name) in &unfinished.names {
            remove(directory, name);
        }
        for program in &unfinished.programs {
            let _ = kill_process(*program, Signal::TERM);
        }
        for directory in &unfinished.trees {
            let _ = fs::remove_dir_all(directory);
        }
        std::mem::forget(unfinished);
    })
}

/// Removes a file, or a directory that is empty.
fn remove(directory: &OwnedFd, name: &OsStr) {
    if rustix::fs::unlinkat(directory, name, AtFlags::empty()).is_err() {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
    }
}

/// A name that was made elsewhere (a socket's, an empty directory's) and is removed when this is
/// dropped, or when a signal ends the process. Those made first are removed first.
#[derive(Debug)]
pub struct Passing {
    directory: Directory,
    name: OsString,
}

impl Passing {
    /// Takes care of `name` in `directory` from now on.
    pub fn new(directory: &Directory, name: impl Into<OsString>) -> Self {
        let name = name.into();
        unfinished().add(directory, &name);
        Self {
            directory: directory.clone(),
            name,
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let mut unfinished = unfinished();
        remove(&self.directory.fd, &self.name);
        unfinished.forget(&self.directory, &self.name);
    }
}
