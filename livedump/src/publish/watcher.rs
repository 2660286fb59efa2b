//! Removes a directory even if the process that created it is killed.
//!
//! The watcher is a process in its own process group. It reads a pipe whose other end only the
//! watched process has. A byte in the pipe means that the watched process has removed the
//! directory; the end of the pipe without a byte means that it was killed, and the watcher removes
//! the directory.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The watcher, in the watched process. Dropping it dismisses the watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    child: Child,
}

impl Watcher {
    /// Starts `command`, which must call [`watch_over`] with `directory`, its last argument.
    pub(super) fn start(command: &mut Command, directory: &Path) -> io::Result<Self> {
        let child = command
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            // If the watcher has exited, it needs no byte.
            let _ = pipe.write_all(b".");
        }
        let _ = self.child.wait();
    }
}

/// The watcher process: waits until `watched` ends. Without a byte it removes `directory` with its
/// contents. Returns whether it did.
///
/// # Errors
///
/// The system's error for the pipe or the directory.
pub fn watch_over(watched: &mut dyn Read, directory: impl AsRef<Path>) -> io::Result<bool> {
    let directory = directory.as_ref();
    let mut byte = [0];
    loop {
        match watched.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    match fs::remove_dir_all(directory) {
        // The watched process has removed it after a signal.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_removed_only_if_the_pipe_ends_without_a_byte() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("private");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("vmcore.0"), "x").unwrap();
        assert!(!watch_over(&mut &b"."[..], &directory).unwrap());
        assert!(directory.exists());
        assert!(watch_over(&mut &b""[..], &directory).unwrap());
        assert!(!directory.exists());
        assert!(!watch_over(&mut &b""[..], &directory).unwrap());
    }
}
