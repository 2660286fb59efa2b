//! Unlinked temporary files, and the error if a directory has no space for them or cannot be written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A new file without a name in `directory`, or in the system's directory for temporary files.
///
/// # Errors
///
/// The system's, with the directory and what to do.
pub fn spool(directory: Option<&Path>) -> io::Result<File> {
    let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempfile_in(&directory).map_err(|e| spool_error(Some(&directory), e))
}

/// The same error, said of a temporary file in `directory`.
pub fn spool_error(directory: Option<&Path>, error: io::Error) -> io::Error {
    let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    let what = format!(
        "temporary file in {}: {error}; set TMPDIR to a writable directory with free space",
        directory.display()
    );
    io::Error::new(error.kind(), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_that_cannot_be_used_is_named() {
        let error = spool(Some(Path::new("/no/such/directory"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let text = error.to_string();
        assert!(text.contains(" /no/such/directory: "), "{text}");
        assert!(text.contains("TMPDIR"), "{text}");
    }
}
