//! Lines for the user of a debugger that is about to connect.

use std::fmt;

/// A line for the user of a debugger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// The panic message.
    Panic(String),
    /// The first line of the kernel's version.
    Version(String),
    /// The number of bytes in the message buffer that syslogd(8) has not read.
    Unread(u64),
    /// The dump is read-only.
    ReadOnly,
    /// The command that lists others.
    Help,
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(message) => write!(f, "panic: {message}"),
            Self::Version(line) => write!(f, "kernel: {line}"),
            Self::Unread(bytes) => write!(
                f,
                "{bytes} bytes of messages not read by syslogd; use `monitor dmesg`"
            ),
            Self::ReadOnly => {
                f.write_str("the dump is read-only: memory and registers cannot be set")
            }
            Self::Help => f.write_str("use `monitor help` for more commands"),
        }
    }
}
