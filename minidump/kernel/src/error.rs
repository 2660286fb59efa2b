//! Errors of reading a kernel.

use livecore_minidump::{ElfMachine, ReadError, VirtAddr};

/// An error of reading a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The kernel file has no such symbol.
    #[error("the kernel file has no symbol {0}")]
    NoSymbol(String),
    /// A member's offset is unknown: the kernel file has no type information about it.
    #[error("the kernel file has no type information about {0}")]
    NoMember(String),
    /// Memory cannot be read.
    #[error("{what} at {at}: {source}")]
    Unreadable {
        /// The variable or structure member.
        what: String,
        /// Its address.
        at: VirtAddr,
        /// The cause.
        #[source]
        source: ReadError,
    },
    /// A value is invalid.
    #[error("{what}: found {found:#x}, expected {expected}")]
    Implausible {
        /// The variable or structure member.
        what: String,
        /// Its value.
        found: u64,
        /// A description of valid values.
        expected: &'static str,
    },
    /// The register layout of the architecture is unknown.
    #[error("unsupported ELF machine {0}: unknown register layout")]
    UnknownMachine(ElfMachine),
}
