//! Why a dump cannot be served.

use std::path::PathBuf;

/// Why a dump cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No register layout is known for the kernel's processor.
    #[error("kernels of ELF machine {machine} are not served")]
    Machine {
        /// `e_machine` of the kernel's file.
        machine: u16,
        /// The kernel's file.
        kernel: PathBuf,
    },
}
