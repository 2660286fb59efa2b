//! What a server cannot provide.

use std::fmt;
use std::io;
use std::path::PathBuf;

use livecore_kernel::NotLoaded;

/// Data that was not found or cannot be used. The dump is served without it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The threads, or some of them, cannot be listed.
    Threads(String),
    /// The modules, or some of them, cannot be listed.
    Modules(String),
    /// There are more modules than files are opened.
    TooManyModules,
    /// A file has the name of a loaded module and is another file.
    OtherModule {
        /// The file.
        path: PathBuf,
        /// The name of the module.
        module: String,
        /// The difference.
        why: Box<NotLoaded>,
    },
    /// A file that has the name of a loaded module cannot be opened.
    UnreadableModule {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The path of a module file has a special meaning in commands of debuggers.
    UnsafePath {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The name of a module's section has a special meaning in commands of debuggers.
    UnsafeSection {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(why) => write!(f, "cannot list threads: {why}"),
            Self::Modules(why) => write!(f, "cannot list modules: {why}"),
            Self::TooManyModules => f.write_str("too many modules: the last ones have no symbols"),
            Self::OtherModule { path, module, why } => write!(
                f,
                "{} is not the loaded module {module}: {why}",
                path.display()
            ),
            Self::UnreadableModule { path, source } => {
                write!(f, "ignoring module file {}: {source}", path.display())
            }
            Self::UnsafePath { path, why } | Self::UnsafeSection { path, why } => {
                write!(f, "ignoring module file {}: {why}", path.display())
            }
        }
    }
}
