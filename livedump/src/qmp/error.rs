//! The errors of QMP.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why an operation on a QEMU guest failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// There is no listener at the socket.
    #[error("{path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The connection failed, or a file of the guest could not be read or created.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The failed operation.
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// QEMU has closed the connection: it exited.
    #[error("QEMU closed the connection during {during}")]
    Gone {
        /// The command without an answer.
        during: String,
    },
    /// There was no answer in time. QEMU serves only one client at a time.
    #[error("QEMU did not answer {command} within {} s", waited.as_secs_f32())]
    Timeout {
        /// The command.
        command: String,
        /// The time limit.
        waited: Duration,
    },
    /// QEMU has answered with an error.
    #[error("QEMU refused `{command}`: {why}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's message.
        why: String,
    },
    /// A message violates QMP.
    #[error("QMP message {region}: found {found}, expected {expected}")]
    Protocol {
        /// The message.
        region: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The caller's [`livecore_compress::Progress::cancelled`] returned `true`.
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
