//! Sizes of disk devices.

use std::fs::File;
use std::io;

/// The size of a disk and of its sectors, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The size of the disk.
    pub size: u64,
    /// The size of a sector.
    pub sector: u32,
}

/// Whether the system has `/dev/dumpdev`, and dump devices in fstab(5).
pub fn has_dumpdev() -> bool {
    cfg!(target_os = "freebsd")
}

/// The geometry of the disk device `file`.
///
/// # Errors
///
/// The system's error; [`io::ErrorKind::Unsupported`] on systems other than FreeBSD and Linux.
#[cfg(target_os = "freebsd")]
#[expect(unsafe_code, reason = "ioctl(2) has no safe form")]
pub fn geometry(file: &File) -> io::Result<Geometry> {
    use std::os::fd::AsRawFd;

    use super::ioccom::ior;

    /// FreeBSD `sys/sys/disk.h`
    const DIOCGSECTORSIZE: u32 = ior::<libc::c_uint>(b'd', 128);
    const DIOCGMEDIASIZE: u32 = ior::<libc::off_t>(b'd', 129);
    let (mut sector, mut size): (libc::c_uint, libc::off_t) = (0, 0);
    // SAFETY: an open descriptor, and a live `u_int` that the kernel fills (`_IOR`).
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), DIOCGSECTORSIZE.into(), &raw mut sector) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an open descriptor, and a live `off_t` that the kernel fills (`_IOR`).
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), DIOCGMEDIASIZE.into(), &raw mut size) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Geometry {
        size: u64::try_from(size).unwrap_or(0),
        sector,
    })
}

/// The geometry of the disk device `file`.
///
/// # Errors
///
/// The system's error; [`io::ErrorKind::Unsupported`] on systems other than FreeBSD and Linux.
#[cfg(target_os = "linux")]
pub fn geometry(file: &File) -> io::Result<Geometry> {
    use std::io::{Seek, SeekFrom};

    Ok(Geometry {
        size: (&*file).seek(SeekFrom::End(0))?,
        sector: rustix::fs::ioctl_blksszget(file)?,
    })
}

/// The geometry of the disk device `file`.
///
/// # Errors
///
/// The system's error; [`io::ErrorKind::Unsupported`] on systems other than FreeBSD and Linux.
#[cfg(not(any(target_os = "freebsd", target_os = "linux")))]
pub fn geometry(file: &File) -> io::Result<Geometry> {
    let _ = file;
    Err(io::ErrorKind::Unsupported.into())
}
