//! The errors of mem(4), by meaning.

use std::io;

use livecore_defs::PhysAddr;

/// Why an operation on `/dev/mem` or `/dev/kmem` failed: one variant for each meaning, not for each
/// errno.
///
/// [`MemError::errno`] returns the errno.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// EPERM: opening the device, or opening it for writing, is not permitted.
    #[error("permission denied: {why}")]
    NotPermitted {
        /// The reason.
        why: &'static str,
    },
    /// EBADF: the descriptor for a dump is not open for writing.
    #[error("file descriptor {fd} is not open for writing")]
    BadDescriptor {
        /// The descriptor.
        fd: i32,
    },
    /// EBADF: the device was not opened with this access.
    #[error("the device was not opened for {what}")]
    NotOpenedFor {
        /// `reading` or `writing`.
        what: &'static str,
    },
    /// EINVAL: a dump needs a file, not a pipe or a socket.
    #[error("file descriptor {fd} is not a regular file; dump to a file or use --walk")]
    NotAFile {
        /// The descriptor.
        fd: i32,
    },
    /// EINVAL: `flags` of a dump must be 0.
    #[error("unknown flags of a live dump: {flags:#x}, expected 0")]
    BadFlags {
        /// The flags.
        flags: i32,
    },
    /// EINVAL: the kernel does not support this compression.
    #[error(
        "unsupported compression method {compression}, expected 0 (none), 1 (gzip) or 2 (zstd)"
    )]
    BadCompression {
        /// The method.
        compression: u8,
    },
    /// EBUSY: only one live dump can run at a time.
    #[error("another live dump is running; wait until it has ended")]
    AnotherDumpRunning,
    /// EOPNOTSUPP: this port does not support live minidumps.
    #[error("the kernel does not support live dumps; use --walk")]
    KernelCannotLiveDump,
    /// ECANCELED: Ctrl-C was pressed on the system console.
    #[error("the live dump was cancelled at the system console")]
    Cancelled,
    /// EIO, or EAGAIN from a compressor that is neither gzip nor zstd. The kernel's gzip returns EIO
    /// also if the file system is full: the second attempt fails in the compressor.
    #[error(
        "the kernel's compressor failed, or the file system is full (gzip): free space, or take the \
         dump without --kernel-compress"
    )]
    CompressorFailed,
    /// ENOSPC, EDQUOT, EFBIG: the file system of the dump is full.
    #[error("{}", crate::publish::error::full(.0))]
    NoSpace(#[source] io::Error),
    /// ENOENT: there is no `/dev/mem`.
    #[error("/dev/mem does not exist{}", if *jailed { " in this jail: run livecore on the host" } else { "" })]
    NoDevice {
        /// Whether the process is in a jail(8).
        jailed: bool,
    },
    /// ENOTTY: the kernel has no MEM_EXTRACT_PADDR.
    #[error("this kernel cannot translate addresses: it has no MEM_EXTRACT_PADDR")]
    NoExtract,
    /// EFAULT: there is no memory at this address.
    #[error("cannot access address {at:#x}: {why}")]
    BadAddress {
        /// The first offset of the device that failed: a physical address of `/dev/mem`, a virtual one
        /// of `/dev/kmem`.
        at: u64,
        /// The check that failed.
        why: &'static str,
    },
    /// EOPNOTSUPP: the machine has no memory ranges, or their use is disabled.
    #[error("this machine has no memory range driver")]
    NoRangeDriver,
    /// ENXIO: the firmware has not enabled memory ranges.
    #[error("no memory ranges: the firmware has not enabled them")]
    NoRanges,
    /// EINVAL: the hardware cannot represent the range.
    #[error("memory range {base:#x}/{len:#x}: {why}")]
    BadRange {
        /// Base address.
        base: PhysAddr,
        /// Length.
        len: u64,
        /// The reason.
        why: &'static str,
    },
    /// EBUSY: the range has another owner.
    #[error("memory range {base:#x}/{len:#x} is busy")]
    RangeBusy {
        /// Base address.
        base: PhysAddr,
        /// Length.
        len: u64,
    },
    /// ENOSPC: all variable ranges are in use.
    #[error("no free memory range; clear one that is not needed")]
    NoFreeRange,
    /// ENOENT: there is no such range.
    #[error("no memory range {base:#x}/{len:#x}")]
    NoSuchRange {
        /// Base address.
        base: PhysAddr,
        /// Length.
        len: u64,
    },
    /// EACCES: the range has an unknown type and is changed only with `force`.
    #[error("memory range {base:#x}/{len:#x} is of an unknown type; add `force` to change it")]
    UnknownKind {
        /// Base address.
        base: PhysAddr,
        /// Length.
        len: u64,
    },
    /// EPERM: the range cannot be disabled.
    #[error("memory range {base:#x}/{len:#x} cannot be removed")]
    FixedRange {
        /// Base address.
        base: PhysAddr,
        /// Length.
        len: u64,
    },
    /// EOPNOTSUPP: an operation other than update and remove.
    #[error("unknown memory range operation {operation}")]
    BadRangeOperation {
        /// `mo_arg[0]`.
        operation: i32,
    },
    /// ESRCH: the emulated machine has no such process.
    #[error("no process {pid}")]
    NoSuchProcess {
        /// The process id.
        pid: u32,
    },
    /// mem(4) was used on another system than FreeBSD.
    #[error("this system has no mem(4): it is not FreeBSD")]
    NeedsFreeBsd,
    /// The operation needs the kernel file of an emulated machine, which is missing.
    #[error("{what} need the kernel's ELF file; use --kernel ELF")]
    NoKernelFile {
        /// What needs it.
        what: &'static str,
    },
    /// The machine was given by its description or is a dump, and keeps no changes.
    #[error("cannot change this machine: {why}")]
    Unchangeable {
        /// The reason.
        why: &'static str,
    },
    /// Any other error of the system.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The failed operation.
        doing: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
}

impl MemError {
    /// The errno that a kernel returns, on the system this is built for.
    pub fn errno(&self) -> i32 {
        match self {
            Self::NotPermitted { .. } | Self::FixedRange { .. } => libc::EPERM,
            Self::BadDescriptor { .. } | Self::NotOpenedFor { .. } => libc::EBADF,
            Self::NotAFile { .. }
            | Self::BadFlags { .. }
            | Self::BadCompression { .. }
            | Self::BadRange { .. } => libc::EINVAL,
            Self::AnotherDumpRunning | Self::RangeBusy { .. } => libc::EBUSY,
            Self::KernelCannotLiveDump | Self::NoRangeDriver | Self::BadRangeOperation { .. } => {
                libc::EOPNOTSUPP
            }
            Self::NoDevice { .. } => libc::ENOENT,
            Self::NoExtract => libc::ENOTTY,
            Self::Cancelled => libc::ECANCELED,
            Self::CompressorFailed => libc::EIO,
            Self::NoSpace(source) => source.raw_os_error().unwrap_or(libc::ENOSPC),
            Self::BadAddress { .. } => libc::EFAULT,
            Self::NoRanges => libc::ENXIO,
            Self::NoFreeRange => libc::ENOSPC,
            Self::NoSuchRange { .. } => libc::ENOENT,
            Self::UnknownKind { .. } => libc::EACCES,
            Self::NoSuchProcess { .. } => libc::ESRCH,
            Self::NeedsFreeBsd | Self::NoKernelFile { .. } => libc::ENOSYS,
            Self::Unchangeable { .. } => libc::EROFS,
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}
