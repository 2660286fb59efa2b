//! Why bytes did not get their name.

use std::io;
use std::path::{Path, PathBuf};

/// Why bytes did not get their name. Nothing is left behind, except for [`PublishError::Complete`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The directory is not there, or is none.
    #[error("{path}: {source}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of that name stands there and nobody said that it may go.
    #[error("{path} exists already", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is not enough room, or `minfree` would be crossed.
    #[error(
        "{path}: {needed} KiB needed, {available} KiB available ({minfree} KiB reserved by minfree)",
        path = path.display()
    )]
    NotEnoughSpace {
        /// The directory.
        path: PathBuf,
        /// KiB that the dump takes, as far as is known.
        needed: u64,
        /// KiB that may be used, the reserve taken off.
        available: u64,
        /// KiB that `minfree` reserves.
        minfree: u64,
    },
    /// The disk, or the writer's quota, or its file size limit is full.
    #[error("{path}: {}", full(source), path = shown(path))]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The dump is complete under its name; a later step failed.
    #[error(
        "{path} is complete, but a step after that failed: {source}",
        path = path.display()
    )]
    Complete {
        /// The dump.
        path: PathBuf,
        /// The step that failed.
        #[source]
        source: Box<PublishError>,
    },
    /// What is there may have been put there by another user.
    #[error(
        "{path} is {what}, and others may have put it there: name another file, or a directory that \
         only you can write",
        path = path.display()
    )]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Every number that `-m` allows belongs to dumps of another program.
    #[error("{path}: numbers 0 to {last} are all taken by other dumps", path = path.display())]
    NumbersTaken {
        /// The directory.
        path: PathBuf,
        /// The highest number that would have been allowed.
        last: u32,
    },
    /// Whoever read our standard output, or a pipe, went away.
    #[error("{path}: the reader went away", path = shown(path))]
    ReaderGone {
        /// The pipe's name; `-` is standard output.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{doing} {path}: {source}", path = shown(path))]
    Io {
        /// What was being done: `create`, `sync`, `rename`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl PublishError {
    /// The error that `source` means while `doing` something to `path`.
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

    /// The error that `source` means, which came while writing to `path`. An error of this type
    /// that travelled inside of `source` is returned as it is.
    pub fn of_write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(inner) => inner,
            Err(source) => Self::from_io("write", path, source),
        }
    }

    /// This error, of a step after the dump at `path` had its name.
    pub(super) fn after_naming(self, path: &Path) -> Self {
        Self::Complete {
            path: path.into(),
            source: Box::new(self),
        }
    }

    /// Whether the reason is a pipe without a reader, for exit code 141.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self, Self::ReaderGone { .. })
    }
}

/// A path as people read it: `-` is standard output.
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

/// Whether a write failed for lack of room: ENOSPC, EDQUOT or EFBIG.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
