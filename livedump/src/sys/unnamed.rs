//! Files without a name, which get one when they are complete: O_TMPFILE, on Linux alone. Nothing is
//! left of them when the process ends before, whatever ends it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

/// A new file in `directory` that has no name, and that [`name`] can name. `None` where the system or
/// the file system has none: then a file with a temporary name has to do, and says what is wrong.
#[cfg(target_os = "linux")]
pub fn create(directory: &OwnedFd) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR).ok()?;
    // Without a /proc it could not be named after the work.
    rustix::fs::stat(path_of(&file)).is_ok().then_some(file)
}

/// Names the file `name` in `directory`, where nothing of that name may be.
///
/// # Errors
///
/// The system's.
#[cfg(target_os = "linux")]
pub fn name(file: impl std::os::fd::AsFd, directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};

    let follow = AtFlags::SYMLINK_FOLLOW;
    Ok(rustix::fs::linkat(
        CWD,
        path_of(file),
        directory,
        name,
        follow,
    )?)
}

#[cfg(target_os = "linux")]
fn path_of(file: impl std::os::fd::AsFd) -> String {
    use std::os::fd::AsRawFd;

    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// This system has none.
#[cfg(not(target_os = "linux"))]
pub fn create(_directory: &OwnedFd) -> Option<OwnedFd> {
    None
}

/// This system has none.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`].
#[cfg(not(target_os = "linux"))]
pub fn name(_file: impl std::os::fd::AsFd, _directory: &OwnedFd, _name: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
