//! The error of taking a dump.

use livecore_kernel::KernelError;
use livecore_kernel::locate::LocateError;
use livecore_minidump::ReadError;

use crate::gdb::GdbError;
use crate::mem4::MemError;
use crate::publish::{PublishError, WriteError};
use crate::qmp::QmpError;

/// Why a dump could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The kernel was not found or could not be read.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// No such dump can be written for this kernel.
    #[error("not supported: {what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
    /// The image has no registers of the requested CPU.
    #[error("no CPU {number} in the image: found {has}")]
    NoCpu {
        /// The number of the CPU.
        number: u32,
        /// The CPUs in the image.
        has: String,
    },
    /// The kernel's variables contradict each other or the memory.
    #[error("{what}: found {found}, expected {expected}")]
    Contradiction {
        /// The variable.
        what: &'static str,
        /// Its value.
        found: String,
        /// A consistent value.
        expected: String,
    },
    /// A page table cannot be read.
    #[error("{what}: {source}")]
    Memory {
        /// What was read.
        what: String,
        /// The error.
        #[source]
        source: ReadError,
    },
    /// An error of mem(4).
    #[error(transparent)]
    Mem(#[from] MemError),
    /// The dump could not be planned or written.
    #[error(transparent)]
    Minidump(#[from] livecore_minidump::Error),
    /// `--cpu` was given for a running guest, whose registers change.
    #[error("registers of a running guest are not a consistent snapshot")]
    RunningCpu,
    /// QEMU has not started the guest, and its memory has no kernel.
    #[error("the guest has not started (QEMU status prelaunch): its memory contains no kernel")]
    NotStarted,
    /// The guest runs and does not share its memory.
    #[error("cannot read the memory of the running guest: {why}")]
    MustPause {
        /// The reason.
        why: String,
    },
    /// An error of QEMU.
    #[error(transparent)]
    Qmp(QmpError),
    /// An error of a gdb stub.
    #[error(transparent)]
    Gdb(GdbError),
    /// The dump could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The caller's [`livecore_compress::Progress::cancelled`] returned `true`.
    #[error("cancelled")]
    Cancelled,
}

impl From<WriteError> for TakeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Publish(error) => Self::Publish(error),
            WriteError::Minidump(livecore_minidump::Error::Cancelled) => Self::Cancelled,
            WriteError::Minidump(error) => Self::Minidump(error),
        }
    }
}

impl From<QmpError> for TakeError {
    fn from(error: QmpError) -> Self {
        match error {
            QmpError::Cancelled => Self::Cancelled,
            error => Self::Qmp(error),
        }
    }
}

impl From<GdbError> for TakeError {
    fn from(error: GdbError) -> Self {
        match error {
            GdbError::Cancelled => Self::Cancelled,
            error => Self::Gdb(error),
        }
    }
}

impl From<KernelError> for TakeError {
    fn from(error: KernelError) -> Self {
        Self::Locate(error.into())
    }
}
