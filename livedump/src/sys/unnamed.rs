//! Unnamed files (O_TMPFILE of Linux), which get a name when they are complete. If the process ends
//! earlier, even by SIGKILL, the system removes them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

/// Creates an unnamed file in `directory`, for [`name`]. `None` if the file system does not support
/// that; the caller then creates a file with a temporary name, which also reports other errors.
#[cfg(target_os = "linux")]
pub fn create(directory: &OwnedFd) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, ".", flags, Mode::RUSR | Mode::WUSR).ok()?;
    // `name` needs /proc.
    rustix::fs::stat(path_of(&file)).is_ok().then_some(file)
}

/// Links the file as `name` in `directory`.
///
/// # Errors
///
/// The system's error; EEXIST if the name exists.
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

/// `None`: this system has no unnamed files.
#[cfg(not(target_os = "linux"))]
pub fn create(_directory: &OwnedFd) -> Option<OwnedFd> {
    None
}

/// Fails: this system has no unnamed files.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`].
#[cfg(not(target_os = "linux"))]
pub fn name(_file: impl std::os::fd::AsFd, _directory: &OwnedFd, _name: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
