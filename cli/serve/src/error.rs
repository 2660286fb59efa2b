//! The error of serving a dump.

use std::path::PathBuf;

/// Why a dump cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The kernel's processor has no register description.
    #[error("unsupported ELF machine {machine}: no register description")]
    Machine {
        /// `e_machine` of the kernel file.
        machine: u16,
        /// The kernel file.
        kernel: PathBuf,
    },
}
