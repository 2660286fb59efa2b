//! Frees disk space in the middle of a file.

use std::fs::File;
use std::io;

/// Whether [`punch`] frees space on this file. A file system without support may write zeros
/// instead (UFS does), which frees nothing and is slow.
#[cfg(target_os = "freebsd")]
#[expect(unsafe_code, reason = "fpathconf(2) has no safe form")]
pub(crate) fn is_real(file: &File) -> bool {
    use std::os::fd::AsRawFd;

    /// FreeBSD `sys/unistd.h`, since 14.0.
    const PC_DEALLOC_PRESENT: libc::c_int = 65;
    // SAFETY: an open descriptor and a number; the call touches no memory of ours.
    unsafe { libc::fpathconf(file.as_raw_fd(), PC_DEALLOC_PRESENT) == 1 }
}

/// Whether [`punch`] frees space on this file.
#[cfg(not(target_os = "freebsd"))]
pub(crate) fn is_real(file: &File) -> bool {
    let _ = file;
    false
}

/// Frees the bytes `offset..offset + len` of a file, which then read as zeros.
///
/// # Errors
///
/// The system's error for the file; [`io::ErrorKind::Unsupported`] where no holes can be made.
#[cfg(target_os = "freebsd")]
#[expect(unsafe_code, reason = "fspacectl(2) has no safe form")]
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let signed =
        |n: u64| libc::off_t::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let range = libc::spacectl_range {
        r_offset: signed(offset)?,
        r_len: signed(len)?,
    };
    // SAFETY: an open descriptor and a live `spacectl_range`; a null remainder is allowed.
    let rc = unsafe {
        libc::fspacectl(
            file.as_raw_fd(),
            libc::SPACECTL_DEALLOC,
            &raw const range,
            0,
            std::ptr::null_mut(),
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Frees the bytes `offset..offset + len` of a file. Only on FreeBSD.
///
/// # Errors
///
/// The system's error for the file; [`io::ErrorKind::Unsupported`] where no holes can be made.
#[cfg(not(target_os = "freebsd"))]
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let _ = (file, offset, len);
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "fspacectl(2) needs FreeBSD",
    ))
}
