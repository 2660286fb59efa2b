//! Cleanup when a signal ends the process: temporary files, directories with their contents, and
//! the programs that run on them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::AtFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::directory::Directory;
use crate::sys::signals;

/// Locked while names change, so that a signal is handled before or after the change.
static PUBLISHING: Mutex<()> = Mutex::new(());

static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished {
    names: Vec::new(),
    trees: Vec::new(),
    programs: Vec::new(),
});

/// What this process must clean up.
pub(super) struct Unfinished {
    /// Temporary files.
    names: Vec<(Arc<OwnedFd>, OsString)>,
    /// Private directories.
    pub(super) trees: Vec<PathBuf>,
    /// Programs that run on private directories.
    pub(super) programs: Vec<Pid>,
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    // Lists of names and numbers; a panic elsewhere does not corrupt them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks out signals while names change.
pub(super) fn publishing() -> MutexGuard<'static, ()> {
    lock(&PUBLISHING)
}

/// The list, locked. Keep it locked while creating a file, so that a signal finds both or neither.
pub(super) fn unfinished() -> MutexGuard<'static, Unfinished> {
    lock(&UNFINISHED)
}

impl Unfinished {
    /// Adds `name` in `directory`.
    pub(super) fn add(&mut self, directory: &Directory, name: impl Into<OsString>) {
        self.names.push((directory.fd.clone(), name.into()));
    }

    /// Removes `name` from the list.
    pub(super) fn forget(&mut self, directory: &Directory, name: impl AsRef<OsStr>) {
        let name = name.as_ref();
        self.names
            .retain(|(fd, other)| other != name || !Arc::ptr_eq(fd, &directory.fd));
    }
}

/// Installs handlers for the signals that end a process (SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR2,
/// SIGALRM, SIGVTALRM, SIGXCPU, SIGABRT): they remove all temporary files and exit with 128 + the
/// signal's number. A signal that is ignored stays ignored (nohup(1)). SIGXFSZ no longer ends the
/// process: the write fails with EFBIG.
///
/// A program calls this once before it writes; a second call has no effect.
///
/// # Errors
///
/// The system's error if a handler or the thread for signals cannot be installed.
pub fn watch_signals() -> io::Result<()> {
    signals::on_termination(|_signal| {
        // Never unlock: no file may be renamed or created while the process exits.
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

/// Removes a file or an empty directory.
fn remove(directory: &OwnedFd, name: &OsStr) {
    if rustix::fs::unlinkat(directory, name, AtFlags::empty()).is_err() {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
    }
}

/// A program that receives SIGTERM when a signal ends this process, until this is dropped.
#[derive(Debug)]
pub struct RunningProgram(Pid);

impl RunningProgram {
    /// Starts `command`.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn start(command: &mut Command) -> io::Result<(Self, Child)> {
        // A signal finds the program, or comes before it starts.
        let mut unfinished = unfinished();
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        unfinished.programs.push(pid);
        Ok((Self(pid), child))
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        unfinished().programs.retain(|pid| *pid != self.0);
    }
}

/// Removes a name (of a socket, an empty directory) when it is dropped or a signal ends the
/// process. Names are removed in the order of their creation.
#[derive(Debug)]
pub struct Passing {
    directory: Directory,
    name: OsString,
}

impl Passing {
    /// Registers `name` in `directory`.
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
