//! The error of publishing a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file was not published. No file remains, except with [`PublishError::Complete`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The directory does not exist or is not a directory.
    #[error("{path}: {source}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file exists and may not be replaced.
    #[error("{path} already exists", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is not enough space, or `minfree` would be violated.
    #[error(
        "{path}: not enough space: {needed} KiB needed, {available} KiB available ({minfree} KiB reserved by \
         minfree)",
        path = path.display()
    )]
    NotEnoughSpace {
        /// The directory.
        path: PathBuf,
        /// KiB that the dump needs, as far as known.
        needed: u64,
        /// KiB available, without the reserve.
        available: u64,
        /// KiB that `minfree` reserves.
        minfree: u64,
    },
    /// The disk is full, or a quota or the file size limit is reached.
    #[error("{path}: {}", full(source), path = shown(path))]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The dump is complete; a later step failed.
    #[error(
        "{path} is complete, but a later step failed: {source}",
        path = path.display()
    )]
    Complete {
        /// The dump.
        path: PathBuf,
        /// The error of the step.
        #[source]
        source: Box<PublishError>,
    },
    /// An existing file may have been planted by another user.
    #[error(
        "{path} is {kind} and may have been planted; use another file, or a directory that only \
         you can write",
        path = path.display()
    )]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// The kind of file.
        kind: Planted,
    },
    /// All numbers that `-m` allows belong to dumps of other programs.
    #[error("{path}: other dumps use all numbers from 0 to {last}", path = path.display())]
    NumbersTaken {
        /// The directory.
        path: PathBuf,
        /// The highest number that is allowed.
        last: u32,
    },
    /// The reader of standard output or a pipe exited.
    #[error("{path}: the reader exited", path = shown(path))]
    ReaderGone {
        /// The path of the pipe; `-` is standard output.
        path: PathBuf,
    },
    /// Any other error of the system.
    #[error("cannot {doing} {path}: {source}", path = shown(path))]
    Io {
        /// The failed operation: `create`, `sync`, `rename`.
        doing: &'static str,
        /// Its file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// A kind of file that another user may have planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// A symbolic link.
    Link,
    /// A pipe of another user.
    Pipe,
    /// A device of another user.
    Device,
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "a symbolic link",
            Self::Pipe => "a pipe of another user",
            Self::Device => "a device of another user",
        })
    }
}

impl PublishError {
    /// Converts a system error of `doing` something to `path`.
    pub fn from_io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        if is_full(&source) {
            Self::NoSpace { path, source }
        } else if source.kind() == io::ErrorKind::BrokenPipe {
            Self::ReaderGone { path }
        } else {
            Self::Io {
                doing,
                path,
                source,
            }
        }
    }

    /// Converts an error of writing to `path`. A [`PublishError`] inside `source` is returned
    /// unchanged.
    pub fn of_write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(inner) => inner,
            Err(source) => Self::from_io("write", path, source),
        }
    }

    /// Marks an error of a step after the dump at `path` was complete.
    pub(super) fn after_naming(self, path: &Path) -> Self {
        Self::Complete {
            path: path.into(),
            source: Box::new(self),
        }
    }

    /// Whether the reader of a pipe exited, for exit code 141.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self, Self::ReaderGone { .. })
    }
}

/// A path for messages: `-` is standard output.
fn shown(path: &Path) -> std::path::Display<'_> {
    if path == Path::new("-") {
        Path::new("standard output").display()
    } else {
        path.display()
    }
}

/// What is full, and what to do.
pub(crate) fn full(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => {
            "the user's disk quota is exceeded; free some space, or write to another file system"
        }
        io::ErrorKind::FileTooLarge => {
            "the file is larger than `ulimit -f` or the file system allows; raise the limit, or write \
             to another file system"
        }
        _ => "no space left on the file system; free some, or write to another one",
    }
}

/// Whether a write failed for lack of space: ENOSPC, EDQUOT or EFBIG.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
