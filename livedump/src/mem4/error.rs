//! What mem(4) says no to, by its meaning.

use std::io;

/// Why an operation on `/dev/mem` or `/dev/kmem` failed: one variant per meaning, not per number.
///
/// [`MemError::errno`] gives the number back. What to do about it is in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// EPERM: opening for writing, or any use, is refused.
    #[error("not permitted: {why}")]
    NotPermitted {
        /// What refused.
        why: &'static str,
    },
    /// EBADF: the descriptor for a dump is not open, or not for writing.
    #[error("file descriptor {fd} is not open for writing")]
    BadDescriptor {
        /// The descriptor.
        fd: i32,
    },
    /// EBADF: the device itself was not opened for this.
    #[error("the device was not opened for {what}")]
    NotOpenedFor {
        /// `reading` or `writing`.
        what: &'static str,
    },
    /// EINVAL: a dump goes to a file, not to a pipe or a socket.
    #[error("file descriptor {fd} is no file: dump to a file, or take the dump with --walk")]
    NotAFile {
        /// The descriptor.
        fd: i32,
    },
    /// EINVAL: `flags` of a dump must be 0.
    #[error("flags {flags:#x} are not known: they must be 0")]
    BadFlags {
        /// The flags.
        flags: i32,
    },
    /// EINVAL: the kernel cannot compress like that.
    #[error("the kernel cannot compress with method {compression}: 0 is none, 1 gzip, 2 zstd")]
    BadCompression {
        /// The method.
        compression: u8,
    },
    /// EBUSY: one live dump at a time.
    #[error("another dump is running: wait until it has ended")]
    AnotherDumpRunning,
    /// EOPNOTSUPP: this port's minidumps cannot be taken live.
    #[error("this kernel cannot dump live: take the dump with --walk")]
    KernelCannotLiveDump,
    /// ECANCELED: somebody typed Ctrl-C on the system console.
    #[error("cancelled at the system console")]
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
    /// EFAULT: there is nothing at that address.
    #[error("nothing is at {at:#x}: {why}")]
    BadAddress {
        /// The first address that failed.
        at: u64,
        /// Which check failed.
        why: &'static str,
    },
    /// EOPNOTSUPP: the machine has no memory ranges, or is told not to use them.
    #[error("this machine has no memory range driver")]
    NoRangeDriver,
    /// ENXIO: the firmware has not enabled them.
    #[error("no memory range descriptors: the firmware has not enabled any")]
    NoRanges,
    /// EINVAL: no hardware can express the range.
    #[error("memory range {base:#x}/{len:#x}: {why}")]
    BadRange {
        /// Base address.
        base: u64,
        /// Length.
        len: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// EBUSY: the range belongs to somebody else.
    #[error("memory range {base:#x}/{len:#x} is busy")]
    RangeBusy {
        /// Base address.
        base: u64,
        /// Length.
        len: u64,
    },
    /// ENOSPC: every variable range is taken.
    #[error("no free memory range: remove one that is not needed")]
    NoFreeRange,
    /// ENOENT: nothing to remove.
    #[error("no memory range {base:#x}/{len:#x}")]
    NoSuchRange {
        /// Base address.
        base: u64,
        /// Length.
        len: u64,
    },
    /// EACCES: the range is of a kind that is not known, and is changed only by force.
    #[error("memory range {base:#x}/{len:#x} is of an unknown kind: force is needed")]
    UnknownKind {
        /// Base address.
        base: u64,
        /// Length.
        len: u64,
    },
    /// EPERM: the range cannot be disabled.
    #[error("memory range {base:#x}/{len:#x} cannot be removed")]
    FixedRange {
        /// Base address.
        base: u64,
        /// Length.
        len: u64,
    },
    /// EOPNOTSUPP: an operation on ranges other than update and remove.
    #[error("operation {operation} on memory ranges is not known")]
    BadRangeOperation {
        /// `mo_arg[0]`.
        operation: i32,
    },
    /// ESRCH: the emulated machine has no such process.
    #[error("no process {pid}")]
    NoSuchProcess {
        /// Its number.
        pid: u32,
    },
    /// The requests of mem(4) were issued on another system.
    #[error("mem(4) of this system needs FreeBSD")]
    NeedsFreeBsd,
    /// An emulated machine's kernel file is not at hand, and the operation needs it.
    #[error("{what} need the kernel's ELF file")]
    NoKernelFile {
        /// What was asked for.
        what: &'static str,
    },
    /// The machine is a text or a dump, and keeps no state that could be changed.
    #[error("this machine cannot be changed: {why}")]
    Unchangeable {
        /// What is missing.
        why: &'static str,
    },
    /// Anything else the system says.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl MemError {
    /// The number that a kernel would return, on the system this is built for.
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
