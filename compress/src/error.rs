//! Errors of storing and reading streams.

use std::io;

/// Why bytes could not be stored or read.
///
/// [`Error::Broken`] is about the input; all others are about options or the system.
/// [`Error::in_io`] extracts it from the [`io::Error`] that [`crate::ReadAt`] returns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system error while reading the source.
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    /// A system error while writing.
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    /// The stored bytes contradict their format or their checks.
    #[error("{region} at offset {offset:#x}: found {found}, expected {expected}")]
    Broken {
        /// The part of the file: `zstd frame 12`, `seek table`, `gzip header`.
        region: String,
        /// Offset in the file, or in the stored stream.
        offset: u64,
        /// What the stream contains.
        found: String,
        /// What it should contain.
        expected: String,
    },
    /// A limit of the format would be exceeded.
    #[error("{what} needs {needed} bytes, the limit is {limit}")]
    Limit {
        /// What exceeds it.
        what: String,
        /// The required size.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The memory limit of the options would be exceeded, or the memory is not available.
    #[error(
        "{what} needs {needed} bytes of memory, the limit is {limit}; raise it with --memory SIZE"
    )]
    Memory {
        /// What needs the memory.
        what: String,
        /// The required memory.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// Invalid options: an unknown level, a frame size of 0.
    #[error("{0}")]
    Options(String),
    /// [`crate::Progress::cancelled`] returned `true`.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The [`Error`] inside an [`io::Error`], if there is one.
    pub fn in_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// A copy of the error. A system error is copied with its kind and text.
    pub fn again(&self) -> Self {
        let copy = |e: &io::Error| io::Error::new(e.kind(), e.to_string());
        match self {
            Self::Read(e) => Self::Read(copy(e)),
            Self::Write(e) => Self::Write(copy(e)),
            Self::Broken {
                region,
                offset,
                found,
                expected,
            } => Self::Broken {
                region: region.clone(),
                offset: *offset,
                found: found.clone(),
                expected: expected.clone(),
            },
            Self::Limit {
                what,
                needed,
                limit,
            } => Self::Limit {
                what: what.clone(),
                needed: *needed,
                limit: *limit,
            },
            Self::Memory {
                what,
                needed,
                limit,
            } => Self::Memory {
                what: what.clone(),
                needed: *needed,
                limit: *limit,
            },
            Self::Options(text) => Self::Options(text.clone()),
            Self::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Read(e) | Error::Write(e) => e.kind(),
            Error::Broken { .. } => io::ErrorKind::InvalidData,
            Error::Limit { .. } | Error::Memory { .. } => io::ErrorKind::OutOfMemory,
            Error::Options(_) => io::ErrorKind::InvalidInput,
            Error::Cancelled => io::ErrorKind::Interrupted,
        };
        // Loops in std retry `Interrupted`.
        let kind = if kind == io::ErrorKind::Interrupted {
            io::ErrorKind::Other
        } else {
            kind
        };
        io::Error::new(kind, error)
    }
}
