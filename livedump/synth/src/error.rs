//! Why a machine could not be made.

use std::io;
use std::path::PathBuf;

/// Why a machine could not be described, built or written out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not TOML, or has a key that no machine has. The message names line and column.
    #[error("machine description: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// A value that cannot be.
    #[error("machine description: {key} is {found}, expected {expected}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What the text says.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// The described things do not fit into the described memory.
    #[error("{what} needs {need:#x} bytes of memory, {left:#x} are left")]
    NoRoom {
        /// What was to be placed.
        what: &'static str,
        /// Bytes it needs.
        need: u64,
        /// Bytes no one has taken.
        left: u64,
    },
    /// A compiled kernel was asked for, and the C compiler is absent or failed.
    #[error("compiling the kernel with `{compiler}`: {why}")]
    Compiler {
        /// The command.
        compiler: String,
        /// What it said.
        why: String,
    },
    /// The compiled kernel is not what the builder expects.
    #[error("compiled kernel: {0}")]
    Kernel(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn value(
        key: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Value {
            key,
            found: found.to_string(),
            expected: expected.into(),
        }
    }
}
