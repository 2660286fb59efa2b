//! Why something could not be found in a kernel.

use livecore_minidump::{ElfMachine, ReadError, VirtAddr};

/// Why something could not be found in a kernel's memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The kernel's file does not name it.
    #[error("the kernel file has no symbol {0}")]
    NoSymbol(String),
    /// It is named, and cannot be read.
    #[error("{what} at {at}: {source}")]
    Unreadable {
        /// A symbol, or a field.
        what: String,
        /// Where it should be.
        at: VirtAddr,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// It was read, and cannot be right.
    #[error("{what}: found {found:#x}, expected {expected}")]
    Implausible {
        /// A symbol.
        what: String,
        /// Its value.
        found: u64,
        /// What it could have been.
        expected: &'static str,
    },
    /// The architecture's registers are not known here.
    #[error("threads of ELF machine {0} are not known")]
    UnknownMachine(ElfMachine),
}
