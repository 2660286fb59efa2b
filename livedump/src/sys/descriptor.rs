//! File descriptors given as numbers, as in the kernel's interfaces.
#![expect(
    unsafe_code,
    reason = "a number that may name no descriptor has no safe form"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Whether `fd` is open and was inherited: the descriptors that this program opens are closed when it
/// executes another (FD_CLOEXEC).
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: fcntl(2) takes any number, and F_GETFD no pointer; it fails for one that is not open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Duplicates `fd`; EBADF if it is not open.
///
/// # Errors
///
/// The system's error for the descriptor.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) takes any number, and F_DUPFD_CLOEXEC no pointer; it fails with EBADF for
    // one that is not open.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if new == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just created `new`, so it is open and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}
