//! Why a dump could not be paired with a kernel.

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
    /// Why it is not the kernel, in words.
    pub why: String,
}

/// How many rejected files an error names.
const NAMED: usize = 5;

/// Files that were tried, in parentheses; nothing if there were none.
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

/// Why a dump could not be paired with a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// The kernel's file could not be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's file cannot be read as an ELF file, or the dump cannot be read.
    #[error(transparent)]
    Format(#[from] Error),
    /// The kernel was not found in the memory of a full dump, which does not say where it is.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The file is another kernel's.
    #[error("not the kernel of the dump: its {what} is {kernel}, the dump's is {dump}")]
    AnotherKernel {
        /// What differs: `architecture`, `build-id`, `version`.
        what: &'static str,
        /// What the kernel's file has, printable.
        kernel: String,
        /// What the dump has, printable.
        dump: String,
    },
    /// No file that was tried is the kernel of the dump.
    #[error("the kernel that ran was not found{}", Tried(rejected))]
    NotFound {
        /// The files.
        rejected: Vec<Rejected>,
    },
    /// The kernel's memory could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
