//! The errors of a gdb stub.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why an operation on a guest with a gdb stub failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GdbError {
    /// Nothing listens at the address.
    #[error("{address}: {source}")]
    Connect {
        /// The address.
        address: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The connection failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The failed operation.
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The stub has closed the connection: the hypervisor exited.
    #[error("the gdb stub closed the connection during {during}")]
    Gone {
        /// The packet without an answer.
        during: String,
    },
    /// There was no answer in time. A stub serves only one client at a time.
    #[error("the gdb stub did not answer {packet} within {} s", waited.as_secs_f32())]
    Timeout {
        /// The packet.
        packet: String,
        /// The time limit.
        waited: Duration,
    },
    /// The stub has answered with an error, or does not know the packet.
    #[error("the gdb stub refused {packet}: {why}")]
    Refused {
        /// The packet.
        packet: String,
        /// The answer.
        why: String,
    },
    /// An answer violates the protocol.
    #[error("answer of the gdb stub to {packet}: found {found}, expected {expected}")]
    Protocol {
        /// The packet.
        packet: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The caller's stop function returned `true`.
    #[error("cancelled")]
    Cancelled,
}

impl GdbError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(super) fn protocol(packet: &str, found: &[u8], expected: impl Into<String>) -> Self {
        let found = String::from_utf8_lossy(&found[..found.len().min(80)]);
        Self::Protocol {
            packet: packet.into(),
            found: format!("{:?}", found.as_ref()),
            expected: expected.into(),
        }
    }
}
