//! Notes for the user about the directory of a dump.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A note for the user about the directory of a dump. None of them makes the dump incomplete.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A number is used by another dump.
    NumberSkipped {
        /// The number.
        number: u32,
        /// A file with this number.
        file: String,
    },
    /// A running `savecore -L` will use the number.
    NumberOfSavecore {
        /// The number.
        number: u32,
        /// The temporary file of savecore(8).
        temporary: String,
    },
    /// A temporary file that a killed run left was removed.
    LeftoverRemoved {
        /// The name of the file.
        name: String,
    },
    /// A link points to a file of another program and was not changed.
    LinkKept {
        /// The name of the link.
        name: &'static str,
        /// Its target.
        target: String,
    },
    /// A file has the name of a link and was not changed.
    NotALink {
        /// The name.
        name: String,
    },
    /// A link was not created or removed.
    LinkFailed {
        /// `create` or `remove`.
        doing: &'static str,
        /// The name of the link.
        name: String,
        /// The error of the system.
        why: String,
    },
    /// `minfree` cannot be read, or is not a number; no space is reserved.
    MinfreeIgnored {
        /// The error of the system; `None` if the file is not a number.
        why: Option<String>,
    },
    /// The dump may not fit into the directory.
    MayNotFit {
        /// The directory.
        path: PathBuf,
        /// Available KiB.
        available: u64,
        /// The estimated size of the dump in KiB.
        needed: u64,
        /// Whether the estimate counts the pages that the kernel maps. Otherwise it is the wired
        /// memory.
        walked: bool,
    },
    /// Another process has locked the directory, and the number was selected without a lock.
    NotLocked {
        /// The directory.
        path: PathBuf,
        /// How long livecore waited for the lock.
        seconds: u64,
    },
}

impl Notice {
    pub(super) fn link_failed(doing: &'static str, name: &str, error: &io::Error) -> Self {
        let (name, why) = (name.to_owned(), error.to_string());
        Self::LinkFailed { doing, name, why }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumberSkipped { number, file } => {
                write!(f, "skipped number {number}: {file} exists")
            }
            Self::NumberOfSavecore { number, temporary } => write!(
                f,
                "skipped number {number}: savecore(8) uses it (temporary file {temporary})"
            ),
            Self::LeftoverRemoved { name } => {
                write!(f, "removed the temporary file {name} of a killed run")
            }
            Self::LinkKept { name, target } => {
                write!(f, "{name} points to {target} and was not changed")
            }
            Self::NotALink { name } => write!(f, "{name} is not a link and was not changed"),
            Self::LinkFailed { doing, name, why } => write!(f, "cannot {doing} {name}: {why}"),
            Self::MinfreeIgnored { why: None } => {
                f.write_str("ignoring minfree: it is not a number of KiB")
            }
            Self::MinfreeIgnored { why: Some(why) } => write!(f, "ignoring minfree: {why}"),
            Self::MayNotFit {
                path,
                available,
                needed,
                walked,
            } => {
                let by = match walked {
                    true => "estimated from the pages that the kernel maps",
                    false => "estimated from wired memory; the dump can be several times as large",
                };
                write!(
                    f,
                    "{}: {available} KiB available, the dump needs about {needed} KiB ({by}); if \
                     it fails, use --walk, --kernel-compress or another TMPDIR",
                    path.display()
                )
            }
            Self::NotLocked { path, seconds } => write!(
                f,
                "{}: another process locked the directory for {seconds} s; continued without a lock",
                path.display()
            ),
        }
    }
}
