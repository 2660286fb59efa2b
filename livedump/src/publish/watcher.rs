//! A directory that goes, even when the process that made it is killed.
//!
//! The watcher is a process of its own, in a process group of its own. It has the reading end of a
//! pipe, whose other end nobody but the watched process has. A byte in the pipe means that all is
//! well; its end without a byte means that nobody is there any more who would remove the directory,
//! and then the watcher does.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The watcher, as seen from the process that it watches. Dropped, it is told that all is well.
#[derive(Debug)]
pub(super) struct Watcher {
    child: Child,
}

impl Watcher {
    /// Starts `command`, which has to call [`watch_over`] with `directory`, its last argument.
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
            // A watcher that is gone needs to be told nothing.
            let _ = pipe.write_all(b".");
        }
        let _ = self.child.wait();
    }
}

/// The watcher itself: waits until `watched` ends; without a byte before, removes `directory` with
/// all that is in it. Says whether it had to.
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
        // Whoever was ended by another signal has removed it himself.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_only_when_the_pipe_ends_without_a_word() {
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
