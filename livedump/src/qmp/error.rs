//! What can go wrong between this program and QEMU.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What can go wrong between this program and QEMU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// Nobody listens at the socket.
    #[error("{path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or a file of the guest's could not be read or made.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it could not be.
        #[source]
        source: io::Error,
    },
    /// QEMU has closed the connection: the guest is gone, or was told to quit.
    #[error("the guest's QEMU has gone away during {during}")]
    Gone {
        /// The command that was not answered.
        during: String,
    },
    /// No answer in time. Another client may have the monitor: QEMU serves one at a time.
    #[error("no answer to {command} within {} s", waited.as_secs_f32())]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        waited: Duration,
    },
    /// QEMU has answered with an error.
    #[error("QEMU refuses {command}: {why}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's own words.
        why: String,
    },
    /// What came is not what QMP says.
    #[error("QMP, {region}: found {found}, expected {expected}")]
    Protocol {
        /// Which message.
        region: String,
        /// What was there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// The caller's [`livecore_compress::Progress::cancelled`] said so.
    #[error("cancelled")]
    Cancelled,
}

impl QmpError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(super) fn protocol(
        region: impl Into<String>,
        found: impl std::fmt::Display,
        expected: &'static str,
    ) -> Self {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(120) {
            found.truncate(end);
        }
        Self::Protocol {
            region: region.into(),
            found,
            expected,
        }
    }
}
