//! A private directory for the input of a program, removed with its contents afterwards.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::process::Pid;

use super::PublishError;
use super::cleanup::unfinished;
use super::directory::Directory;
use super::watcher::Watcher;
use crate::sys::signals::ignore_interrupts;

/// A directory of mode 0700. It is removed with its contents when it is dropped, or when SIGINT,
/// SIGTERM, SIGHUP or SIGQUIT ends the process ([`super::watch_signals`]). With a guard process it
/// is also removed if the process is killed ([`PrivateDirectory::guard`]).
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
    watcher: Option<Watcher>,
}

impl PrivateDirectory {
    /// Creates a directory in `parent`.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if it cannot be created.
    pub fn create(parent: impl AsRef<Path>) -> Result<Self, PublishError> {
        let parent = parent.as_ref();
        // The list is locked during the creation, so that a signal finds the name in it or no
        // directory.
        let mut unfinished = unfinished();
        loop {
            let path = parent.join(Directory::temporary_name());
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    unfinished.trees.push(path.clone());
                    return Ok(Self {
                        path,
                        watcher: None,
                    });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(PublishError::from_io("create", path, e)),
            }
        }
    }

    /// Starts a guard process that removes the directory if this process is killed or crashes.
    /// `command` gets the directory's path as its last argument, and calls [`super::watch_over`]
    /// with its standard input.
    ///
    /// # Errors
    ///
    /// The system's error for the command.
    pub fn guard(&mut self, command: &mut Command) -> std::io::Result<()> {
        self.watcher = Some(Watcher::start(command, &self.path)?);
        Ok(())
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a program in the foreground. SIGINT affects only the program; SIGTERM, SIGHUP and
    /// SIGQUIT end it and then this process.
    ///
    /// # Errors
    ///
    /// The system's error for the command.
    pub fn run(&self, command: &mut Command) -> std::io::Result<ExitStatus> {
        let mut unfinished = unfinished();
        ignore_interrupts(true);
        let started = command.spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                ignore_interrupts(false);
                return Err(error);
            }
        };
        let pid = pid(&child);
        unfinished.programs.extend(pid);
        drop(unfinished);
        let status = child.wait();
        self::unfinished().programs.retain(|p| Some(*p) != pid);
        ignore_interrupts(false);
        status
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let mut unfinished = unfinished();
        let _ = fs::remove_dir_all(&self.path);
        unfinished.trees.retain(|path| *path != self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn directory_is_private_and_removed_with_its_contents() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        fs::write(&outside, "stays").unwrap();
        let directory = PrivateDirectory::create(parent.path()).unwrap();
        let path = directory.path().to_owned();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        fs::create_dir(path.join("inner")).unwrap();
        fs::write(path.join("inner/file"), "goes").unwrap();
        std::os::unix::fs::symlink(&outside, path.join("link")).unwrap();
        let status = directory.run(Command::new("false").arg("x")).unwrap();
        assert_eq!(status.code(), Some(1));
        assert!(
            directory
                .run(&mut Command::new("/no/such/program"))
                .is_err()
        );
        drop(directory);
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(outside).unwrap(), "stays");
    }
}
