//! The sandbox: a process gives up what its work does not need before it parses a file.
//!
//! | system  | means | restricts |
//! |---------|-------|-----------|
//! | Linux   | Landlock | files that may be opened, written, made and removed; TCP; signals to other processes |
//! | Linux   | seccomp | system calls: programs, sockets, other processes' memory, mounts, namespaces, kernel modules |
//! | FreeBSD | Capsicum | no file is opened by name: [`close_paths`] |
//!
//! What the system lacks is left out: [`InForce`] says what is in force and what is not.
//!
//! Landlock restricts the thread that asks for it and those that it starts later, so [`enter`] is
//! called before the first thread.

use std::fmt;
use std::path::PathBuf;

#[cfg(target_os = "freebsd")]
mod capsicum;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;

/// What a process may still do in the sandbox.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// The files; `None` for all, of a process that runs programs with files of their own.
    pub files: Option<Files>,
    /// The sockets.
    pub sockets: Sockets,
    /// Whether other programs may be run.
    pub programs: bool,
    /// Whether the process calls [`close_paths`] when its inputs are open.
    pub closes_paths: bool,
}

/// Files that may be used. What does not exist when the sandbox is entered is passed over.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Files, and directories with everything below them, that may be read.
    pub read: Vec<PathBuf>,
    /// Files that may be written, and directories below which files may be read, written, made and
    /// removed.
    pub write: Vec<PathBuf>,
    /// Directories below which files and empty directories may be removed.
    pub remove: Vec<PathBuf>,
    /// Programs that may be run, and what they are made of.
    pub run: Vec<PathBuf>,
}

/// Sockets that may be used. Pairs of connected sockets can always be made.
#[derive(Debug, Clone, Default)]
pub enum Sockets {
    /// None.
    #[default]
    None,
    /// Those that listen already.
    Listening,
    /// Connections to this Unix socket.
    Unix(PathBuf),
    /// All.
    All,
}

/// One means of a sandbox.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What is in force, or why nothing is.
    pub state: Result<String, String>,
}

/// What is in force of a sandbox.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// Every means that was tried.
    pub parts: Vec<Part>,
}

impl InForce {
    /// The first means that was tried and is not active.
    pub fn missing(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.state.is_err())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Ok(what) => write!(f, "{}: {what}", self.name),
            Err(why) => write!(f, "{}: not active: {why}", self.name),
        }
    }
}

/// Gives up everything but `allowed`, for good. Called before the first thread is started.
#[cfg(target_os = "linux")]
pub fn enter(allowed: &Allowed) -> InForce {
    // Landlock first: its own calls are among those that seccomp could refuse.
    let files = allowed.files.as_ref();
    let files = files.map(|files| landlock::restrict(files, &allowed.sockets));
    let calls = seccomp::restrict(&allowed.sockets, allowed.programs);
    InForce {
        parts: files.into_iter().chain([calls]).collect(),
    }
}

/// Gives up everything but `allowed`, for good. Capsicum knows no files that may be opened by name:
/// the work of [`close_paths`].
#[cfg(target_os = "freebsd")]
pub fn enter(allowed: &Allowed) -> InForce {
    let state = match allowed.closes_paths {
        true => Ok("capability mode when the inputs are open".into()),
        false => Err("files are opened by name during the work".into()),
    };
    let name = "capsicum";
    InForce {
        parts: vec![Part { name, state }],
    }
}

/// This system has no sandbox that is known here.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn enter(_allowed: &Allowed) -> InForce {
    InForce {
        parts: vec![Part {
            name: "sandbox",
            state: Err("this system has none that is supported".into()),
        }],
    }
}

#[cfg(target_os = "freebsd")]
pub use capsicum::close_paths;

/// From here on no file is opened by name, on a system where that can be given up for good. `inputs`
/// can only be read.
///
/// # Errors
///
/// The system's error. Nothing is given up then.
#[cfg(not(target_os = "freebsd"))]
pub fn close_paths(_inputs: &[std::os::fd::BorrowedFd<'_>]) -> std::io::Result<()> {
    Ok(())
}
