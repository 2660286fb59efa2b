//! Errors of locating a kernel in memory.

use livecore_minidump::ReadError;

use crate::error::KernelError;

/// An error of locating a kernel in memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// The kernel file does not have a required symbol.
    #[error("the kernel file has no symbol {name}")]
    NoSymbol {
        /// The symbol.
        name: String,
    },
    /// Kernels of this kind are not supported.
    #[error("not supported: {what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
    /// The kernel of the file is not in memory.
    #[error("kernel not found in memory: {why}")]
    NoKernel {
        /// The result of the search.
        why: String,
        /// The version string was found, but the kernel's variables do not match memory. The
        /// physical addresses of the memory may be wrong.
        misplaced: bool,
    },
    /// The kernel's variables contradict each other or the memory.
    #[error("{what}: found {found}, expected {expected}")]
    Contradiction {
        /// The variable.
        what: &'static str,
        /// Its value.
        found: String,
        /// A description of valid values.
        expected: String,
    },
    /// Kernel memory cannot be read.
    #[error("{what}: {source}")]
    Memory {
        /// The variable or structure.
        what: String,
        /// The cause.
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
