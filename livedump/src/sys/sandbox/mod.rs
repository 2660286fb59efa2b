//! The sandbox: before it parses a file, a process gives up the privileges that it does not need.
//!
//! | system  | mechanism | restricts |
//! |---------|-------|-----------|
//! | Linux   | Landlock | files, TCP, signals to other processes |
//! | Linux   | seccomp | system calls: programs, sockets, memory of other processes, mounts, namespaces, kernel modules |
//! | FreeBSD | Capsicum | opening files by name, see [`close_paths`] |
//!
//! A mechanism that the system does not support is skipped; [`Status`] lists the active ones.
//!
//! Landlock restricts the calling thread and the threads that it starts later. Call [`enter`] before the
//! process starts threads.

use std::fmt;
use std::path::PathBuf;

#[cfg(target_os = "freebsd")]
mod capsicum;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod seccomp;

/// The permissions of a process in the sandbox.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// The files. `None` permits all files, for a process that runs other programs.
    pub files: Option<Files>,
    /// The sockets.
    pub sockets: Sockets,
    /// Whether the process may run other programs.
    pub programs: bool,
    /// Whether the process will call [`close_paths`] after it has opened its inputs.
    pub closes_paths: bool,
}

/// The permitted files. Paths that do not exist when the process enters the sandbox are ignored.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Readable files, and directories whose contents are readable at any depth.
    pub read: Vec<PathBuf>,
    /// Writable files, and directories below which files can be read, written, created and removed.
    pub write: Vec<PathBuf>,
    /// Directories below which files and empty directories can be removed.
    pub remove: Vec<PathBuf>,
    /// Executable programs.
    pub run: Vec<PathBuf>,
}

/// The permitted sockets. socketpair(2) of streams is always permitted.
#[derive(Debug, Clone, Default)]
pub enum Sockets {
    /// None.
    #[default]
    None,
    /// Connections to sockets that already listen.
    Listening,
    /// Connections to other hosts, and lookups of their addresses.
    Connecting,
    /// Connections to this Unix socket.
    Unix(PathBuf),
    /// Connections to this TCP port, and what resolving a name needs.
    Tcp(u16),
    /// All.
    All,
}

/// A mechanism of the sandbox.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// A description of the active restriction, or why there is none.
    pub state: Result<String, String>,
}

/// The state of the sandbox.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// All mechanisms that were tried.
    pub parts: Vec<Part>,
}

impl Status {
    /// The first mechanism that is not active.
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

/// Permanently restricts the process to `allowed`. Call it before the process starts threads.
#[cfg(target_os = "linux")]
pub fn enter(allowed: &Allowed) -> Status {
    // Landlock comes first because seccomp could deny its system calls.
    let files = allowed.files.as_ref();
    let files = files.map(|files| landlock::restrict(files, &allowed.sockets));
    let calls = seccomp::restrict(&allowed.sockets, allowed.programs);
    Status {
        parts: files.into_iter().chain([calls]).collect(),
    }
}

/// Returns whether Capsicum will be active. Capsicum denies opening files by name, so only
/// [`close_paths`] enters it.
#[cfg(target_os = "freebsd")]
pub fn enter(allowed: &Allowed) -> Status {
    let state = match allowed.closes_paths {
        true => Ok("capability mode after the inputs are open".into()),
        false => Err("this verb opens files by name while it works".into()),
    };
    let name = "capsicum";
    Status {
        parts: vec![Part { name, state }],
    }
}

/// Does nothing: no sandbox of this system is supported.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn enter(_allowed: &Allowed) -> Status {
    Status {
        parts: vec![Part {
            name: "sandbox",
            state: Err("not supported on this system".into()),
        }],
    }
}

#[cfg(target_os = "freebsd")]
pub use capsicum::close_paths;

/// Denies opening files by name, and writing to `inputs`, where the system supports that. This system
/// does not.
///
/// # Errors
///
/// The system's error.
#[cfg(not(target_os = "freebsd"))]
pub fn close_paths(_inputs: &[std::os::fd::BorrowedFd<'_>]) -> std::io::Result<()> {
    Ok(())
}
