//! Capsicum's capability mode, as savecore(8) enters it.
#![expect(unsafe_code, reason = "cap_enter(2) and rights have no safe form")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Enters capability mode: the process can no longer open files by name. `inputs` become read-only.
///
/// # Errors
///
/// The system's error. ENOSYS (a kernel without Capsicum) is ignored, as savecore(8) does.
pub fn close_paths(inputs: &[BorrowedFd<'_>]) -> io::Result<()> {
    for input in inputs {
        let mut rights = MaybeUninit::<libc::cap_rights_t>::zeroed();
        // SAFETY: `rights` is live, and the list of rights ends in 0.
        unsafe {
            libc::__cap_rights_init(
                libc::CAP_RIGHTS_VERSION,
                rights.as_mut_ptr(),
                libc::CAP_PREAD,
                libc::CAP_FSTAT,
                0_u64,
            )
        };
        // SAFETY: an open descriptor, and rights that the call above has initialized.
        let rc = unsafe { libc::cap_rights_limit(input.as_raw_fd(), rights.as_ptr()) };
        supported(rc)?;
    }
    // SAFETY: takes nothing and touches no memory.
    supported(unsafe { libc::cap_enter() })
}

fn supported(rc: libc::c_int) -> io::Result<()> {
    let error = io::Error::last_os_error();
    if rc == 0 || error.raw_os_error() == Some(libc::ENOSYS) {
        return Ok(());
    }
    Err(error)
}
