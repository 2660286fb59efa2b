//! What a server cannot provide.

use std::fmt;
use std::path::PathBuf;

/// Data that was not found or cannot be used. The dump is served without it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        why: String,
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
            Self::Threads(why) => write!(f, "threads: {why}"),
            Self::Modules(why) => write!(f, "modules: {why}"),
            Self::TooManyModules => f.write_str("too many modules: the last ones have no symbols"),
            Self::OtherModule { path, module, why } => write!(
                f,
                "{} is not the loaded module {module}: {why}",
                path.display()
            ),
            Self::UnsafePath { path, why } | Self::UnsafeSection { path, why } => {
                write!(f, "ignoring module file {}: {why}", path.display())
            }
        }
    }
}
