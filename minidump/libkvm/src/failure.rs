//! Errors of the library.

use std::fmt::{self, Display};

use livecore_kernel::KernelError;
use livecore_minidump::ReadError;

/// The text for `kvm_geterr`, or for standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    /// Whether `kvm_geterr` returns it even if the program asked for errors on standard error: for
    /// unreadable addresses, of which debuggers read many.
    pub(crate) soft: bool,
}

impl Failure {
    /// An error that a program with `errstr` sees on standard error.
    pub(crate) fn hard(text: impl Display) -> Self {
        Self {
            text: text.to_string(),
            soft: false,
        }
    }

    /// An address that cannot be read.
    pub(crate) fn address(at: u64, why: &ReadError) -> Self {
        Self {
            text: format!("invalid address ({at:#x}): {why}"),
            soft: true,
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self::hard(error)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
