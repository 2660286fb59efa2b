//! Errors of this crate.

use std::io;
use std::path::PathBuf;

/// A failure to parse a description, or to build or write a machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not TOML, or has an unknown key. The message has line and column.
    #[error("machine description: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// An invalid value.
    #[error("machine description: {key} is {found}, expected {expected}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// The value in the text.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// The described contents do not fit into the described memory.
    #[error("the described memory is too small for {what}: {need:#x} bytes needed, {left:#x} free")]
    NoSpace {
        /// The contents that do not fit.
        what: &'static str,
        /// Number of bytes needed.
        need: u64,
        /// Number of free bytes.
        left: u64,
    },
    /// The description asks for a compiled kernel, and the C compiler is missing or failed.
    #[error("cannot compile the kernel with `{compiler}`: {why}")]
    Compiler {
        /// The command.
        compiler: String,
        /// Its first error.
        why: String,
    },
    /// The kernel differs from what the builder expects.
    #[error("cannot build the kernel: {0}")]
    Kernel(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
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
