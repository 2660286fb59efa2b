//! What can go wrong with stored bytes.

use std::io;

/// Why bytes could not be stored or taken out again.
///
/// [`Error::Broken`] is about the input; everything else is about the world around us. Inside an
/// [`io::Error`] (as [`crate::ReadAt`] returns it) it can be found again by [`Error::in_io`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system said no, while reading the source.
    #[error("read: {0}")]
    Read(#[source] io::Error),
    /// The system said no, while writing.
    #[error("write: {0}")]
    Write(#[source] io::Error),
    /// The stored bytes are not what their format or their own checks say.
    #[error("{region} at offset {offset:#x}: found {found}, expected {expected}")]
    Broken {
        /// The part of the file: `zstd frame 12`, `seek table`, `gzip header`.
        region: String,
        /// Where it begins in the file (or in the stored stream when that is all there is).
        offset: u64,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A limit of the caller's options would be exceeded.
    #[error("{what} needs {needed} bytes, the limit is {limit}")]
    Limit {
        /// What needs it.
        what: String,
        /// How much.
        needed: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The memory of the caller's options would be exceeded, or is not to be had.
    #[error(
        "{what} needs {needed} bytes of memory, the limit is {limit}; raise it with --memory SIZE"
    )]
    Memory {
        /// What needs it.
        what: String,
        /// How much.
        needed: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// The options make no sense: a level that the codec has not, a frame of no size.
    #[error("{0}")]
    Options(String),
    /// [`crate::Progress::cancelled`] said so.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The [`Error`] that an [`io::Error`] carries, if it carries one.
    pub fn in_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The same error for one more who asks. What the system said is kept as its words.
    pub fn again(&self) -> Self {
        let said = |e: &io::Error| io::Error::new(e.kind(), e.to_string());
        match self {
            Self::Read(e) => Self::Read(said(e)),
            Self::Write(e) => Self::Write(said(e)),
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
            Self::Options(words) => Self::Options(words.clone()),
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
        // `Interrupted` would be retried by every loop of std.
        let kind = if kind == io::ErrorKind::Interrupted {
            io::ErrorKind::Other
        } else {
            kind
        };
        io::Error::new(kind, error)
    }
}
