//! Errors of pairing a dump with a kernel.

use std::fmt;
use std::io;
use std::path::PathBuf;

use livecore_minidump::Error;

use crate::error::KernelError;
use crate::locate::LocateError;

/// A file that is not the kernel of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub why: String,
}

/// The number of rejected files in an error message.
const NAMED: usize = 5;

/// Displays the files that were tried in parentheses, or nothing if there are none.
#[derive(Debug, Clone, Copy)]
pub struct Tried<'a>(pub &'a [Rejected]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(" (")?;
        for (i, Rejected { path, why }) in self.0.iter().take(NAMED).enumerate() {
            let between = if i == 0 { "" } else { "; " };
            write!(f, "{between}{}: {why}", path.display())?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => f.write_str(")"),
            more => write!(f, "; {more} more)"),
        }
    }
}

/// An error of pairing a dump with a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// The kernel file could not be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel file is not a valid ELF file, or the dump cannot be read.
    #[error(transparent)]
    Format(#[from] Error),
    /// The kernel was not found in the memory of a full dump.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The file is another kernel.
    #[error("not the kernel of the dump: its {what} is {kernel}, the dump's is {dump}")]
    AnotherKernel {
        /// The property that differs: `architecture`, `build-id` or `version`.
        what: &'static str,
        /// The kernel file's value, printable.
        kernel: String,
        /// The dump's value, printable.
        dump: String,
    },
    /// None of the files that were tried is the kernel of the dump.
    #[error("kernel of the dump not found{}", Tried(rejected))]
    NotFound {
        /// The files that were tried.
        rejected: Vec<Rejected>,
    },
    /// The kernel's memory could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
