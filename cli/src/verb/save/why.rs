//! Why a dump was not written.

use livecore_minidump::Error;

use crate::failure::Failure;

/// Why a dump was not written.
pub(super) enum Why {
    /// It cannot be read, or is damaged.
    Input(Error),
    /// It cannot be written.
    Output(Failure),
}

impl From<Failure> for Why {
    fn from(failure: Failure) -> Self {
        Self::Output(failure)
    }
}
