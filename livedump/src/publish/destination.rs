//! What `-o` means.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a dump goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into a directory, as savecore(8) would: numbered, with `info.N`, `bounds` and links.
    Directory(PathBuf),
    /// To a file of this name, and nothing beside it.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

impl Destination {
    /// `-` is standard output; what is a directory, or ends in `/`, is a directory; all else is a
    /// file.
    pub fn parse(name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref();
        let path = Path::new(name);
        if name == "-" {
            Self::Stdout
        } else if name.as_bytes().ends_with(b"/") || path.is_dir() {
            Self::Directory(path.into())
        } else {
            Self::File(path.into())
        }
    }

    /// The directory that the file is made in; `None` for standard output.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::File(path) => Some(path.parent().unwrap_or(Path::new(""))),
            Self::Stdout => None,
        }
    }

    /// Whether only a stream will do: no header can be rewritten, nothing can be renamed.
    pub fn is_stdout(&self) -> bool {
        *self == Self::Stdout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_that_exists_or_ends_in_a_slash() {
        let there = tempfile::tempdir().unwrap();
        let path = there.path();
        assert_eq!(
            Destination::parse(path),
            Destination::Directory(path.into())
        );
        assert_eq!(
            Destination::parse("no/such/"),
            Destination::Directory("no/such/".into())
        );
        assert_eq!(
            Destination::parse("no/such"),
            Destination::File("no/such".into())
        );
        assert_eq!(Destination::parse("."), Destination::Directory(".".into()));
        assert_eq!(Destination::parse("-"), Destination::Stdout);
        assert_eq!(Destination::parse("./-"), Destination::File("./-".into()));
    }
}
