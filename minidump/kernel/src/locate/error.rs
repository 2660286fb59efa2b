//! Why a kernel could not be found in memory, or not be read there.

use livecore_minidump::ReadError;

use crate::error::KernelError;

/// Why a kernel could not be found in memory, or not be read there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The kernel file lacks a symbol without which nothing can be found.
    #[error("the kernel file has no symbol {name}")]
    NoSymbol {
        /// The symbol.
        name: String,
    },
    /// Kernels like this one cannot be found.
    #[error("not supported: {what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
    /// The memory does not hold the kernel that the file describes.
    #[error("this kernel is not in the memory: {why}")]
    NoKernel {
        /// How far the search came.
        why: String,
        /// Its version string is there, and nothing is where its variables say: memory may have
        /// other addresses than it was given.
        misplaced: bool,
    },
    /// The kernel's variables contradict each other or the memory.
    #[error("{what}: found {found}, expected {expected}")]
    Contradiction {
        /// Which variable.
        what: &'static str,
        /// Its value.
        found: String,
        /// A value that fits the others.
        expected: String,
    },
    /// Something the kernel points at cannot be read.
    #[error("{what}: {source}")]
    Memory {
        /// What was being read.
        what: String,
        /// Why it could not be.
        #[source]
        source: ReadError,
    },
}

impl From<KernelError> for LocateError {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::NoSymbol(name) => Self::NoSymbol { name },
            KernelError::Unreadable { what, source, .. } => Self::Memory { what, source },
            other => Self::Unsupported {
                what: other.to_string(),
            },
        }
    }
}
