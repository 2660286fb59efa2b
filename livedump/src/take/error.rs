//! Why no dump could be taken.

use livecore_kernel::KernelError;
use livecore_kernel::locate::LocateError;
use livecore_minidump::ReadError;

use crate::mem4::MemError;
use crate::publish::{PublishError, WriteError};
use crate::qmp::QmpError;

/// Why no dump could be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The kernel could not be found, or not be read.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// No such dump is written of this kernel.
    #[error("not supported: {what}")]
    Unsupported {
        /// What is not.
        what: String,
    },
    /// A processor was asked for that the image has no registers of.
    #[error("the image has no CPU {number}; it has {has}")]
    NoCpu {
        /// Its number.
        number: u32,
        /// The numbers that there are.
        has: String,
    },
    /// The kernel's variables contradict each other or the memory: no dump can be made of them.
    #[error("{what}: found {found}, expected {expected}")]
    Contradiction {
        /// Which variable.
        what: &'static str,
        /// Its value.
        found: String,
        /// What would make sense.
        expected: String,
    },
    /// A page table cannot be read.
    #[error("{what}: {source}")]
    Memory {
        /// What was being read.
        what: String,
        /// Why it could not be.
        #[source]
        source: ReadError,
    },
    /// mem(4) said no.
    #[error(transparent)]
    Mem(#[from] MemError),
    /// The dump could not be laid out or written.
    #[error(transparent)]
    Minidump(#[from] livecore_minidump::Error),
    /// A processor was asked for whose machine runs: its registers are of no one moment.
    #[error("the registers of a guest that runs are of no one moment")]
    RunningCpu,
    /// QEMU has not started the guest, and its memory has no kernel.
    #[error("the guest has not started (QEMU status prelaunch): its memory contains no kernel")]
    NotStarted,
    /// The guest runs, and nobody but its QEMU has its memory.
    #[error("the guest shares no memory that could be read while it runs: {why}")]
    MustPause {
        /// Why not.
        why: String,
    },
    /// QEMU did not do its part.
    #[error(transparent)]
    Qmp(QmpError),
    /// The dump could not be placed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The caller's [`livecore_compress::Progress::cancelled`] said so.
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

impl From<KernelError> for TakeError {
    fn from(error: KernelError) -> Self {
        Self::Locate(error.into())
    }
}
