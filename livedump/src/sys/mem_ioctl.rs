//! Issues mem(4)'s four requests to a kernel, or to a recording of one.
#![cfg_attr(
    target_os = "freebsd",
    expect(unsafe_code, reason = "ioctl(2) has no safe form")
)]

use std::io;
use std::os::fd::BorrowedFd;

use super::memrange::{
    MEM_EXTRACT_PADDR, MEM_KERNELDUMP, MEMRANGE_GET, MEMRANGE_SET, MemExtract, MemLivedumpArg,
    MemRangeDesc,
};

/// A request with its argument.
#[derive(Debug)]
pub enum Request<'a> {
    /// [`MEMRANGE_GET`]: fills as many descriptors as fit.
    RangesGet {
        /// The descriptors. If empty, the kernel returns their number.
        descs: &'a mut [MemRangeDesc],
        /// Out: the number of filled descriptors, or of all.
        count: &'a mut i32,
    },
    /// [`MEMRANGE_SET`]
    RangesSet {
        /// The range.
        desc: &'a mut MemRangeDesc,
        /// `MEMRANGE_SET_UPDATE` or `MEMRANGE_SET_REMOVE`.
        operation: i32,
    },
    /// [`MEM_EXTRACT_PADDR`]
    ExtractPaddr(&'a mut MemExtract),
    /// [`MEM_KERNELDUMP`]: returns when the dump is written, and cannot be interrupted.
    KernelDump(&'a MemLivedumpArg),
}

impl Request<'_> {
    /// The request's number.
    pub fn number(&self) -> u32 {
        match self {
            Self::RangesGet { .. } => MEMRANGE_GET,
            Self::RangesSet { .. } => MEMRANGE_SET,
            Self::ExtractPaddr(_) => MEM_EXTRACT_PADDR,
            Self::KernelDump(_) => MEM_KERNELDUMP,
        }
    }
}

/// Issues requests to a kernel. Errors are the kernel's own.
///
/// [`Request::KernelDump`] is issued in a forked child, where an implementation must not allocate,
/// lock or panic.
pub trait MemIoctl: Send + Sync {
    /// Issues `request` on the open device `mem`.
    ///
    /// # Errors
    ///
    /// The errno of ioctl(2).
    fn issue(&self, mem: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()>;
}

/// The kernel of this system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

#[cfg(target_os = "freebsd")]
impl MemIoctl for Kernel {
    fn issue(&self, mem: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
        use super::memrange::MemRangeOp;
        use std::os::fd::AsRawFd;

        let number = libc::c_ulong::from(request.number());
        let fd = mem.as_raw_fd();
        let rc = match request {
            Request::RangesGet { descs, count } => {
                let mut op = MemRangeOp {
                    mo_desc: descs.as_mut_ptr(),
                    mo_arg: [i32::try_from(descs.len()).unwrap_or(i32::MAX), 0],
                };
                // SAFETY: `op` is a live `mem_range_op` that the kernel may write back (`_IOWR`);
                // it fills at most `mo_arg[0]` descriptors, which is no more than `descs` has, and
                // every bit pattern is a valid descriptor.
                let rc = unsafe { libc::ioctl(fd, number, &raw mut op) };
                *count = op.mo_arg[0];
                rc
            }
            Request::RangesSet { desc, operation } => {
                let mut op = MemRangeOp {
                    mo_desc: desc,
                    mo_arg: [operation, 0],
                };
                // SAFETY: `op` is a live `mem_range_op` and points to one live descriptor, which
                // the kernel copies in (`_IOW`); `desc` is borrowed mutably all the while.
                unsafe { libc::ioctl(fd, number, &raw mut op) }
            }
            // SAFETY: the argument is a live `mem_extract` that the kernel may write back
            // (`_IOWR`, 64 bytes); every bit pattern is one.
            Request::ExtractPaddr(extract) => unsafe {
                libc::ioctl(fd, number, std::ptr::from_mut(extract))
            },
            // SAFETY: the argument is a live, fully initialised `mem_livedump_arg`; the kernel
            // copies 32 bytes in and writes nothing back (`_IOW`).
            Request::KernelDump(arg) => unsafe { libc::ioctl(fd, number, std::ptr::from_ref(arg)) },
        };
        if rc == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// On other systems than FreeBSD every request is [`io::ErrorKind::Unsupported`].
#[cfg(not(target_os = "freebsd"))]
impl MemIoctl for Kernel {
    fn issue(&self, _mem: BorrowedFd<'_>, _request: Request<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
