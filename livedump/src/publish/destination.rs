//! The destination of a dump, `-o`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The destination of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory, with numbered files, `info.N`, `bounds` and links like savecore(8)'s.
    Directory(PathBuf),
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl Destination {
    /// Parses a destination: `-` is standard output; an existing directory, or a name that ends in
    /// `/`, is a directory; any other name is a file.
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

    /// The directory of the file; `None` for standard output.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::File(path) => Some(path.parent().unwrap_or(Path::new(""))),
            Self::Stdout => None,
        }
    }

    /// Whether it is standard output.
    pub fn is_stdout(&self) -> bool {
        *self == Self::Stdout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_directories_and_names_with_a_slash_are_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
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
