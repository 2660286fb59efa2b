//! Output to pipes and devices.
//!
//! The kind of file is checked after opening it without blocking and without truncation, so a name
//! that changes between the check and the opening leads to an error.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::directory::{Directory, is_own};
use super::{Planted, PublishError};

/// The interval of attempts to open a pipe without a reader.
const AGAIN: Duration = Duration::from_millis(50);

/// The kind of file `name` in `directory`, following a symbolic link; `None` if it does not exist.
pub(super) fn kind(directory: &Directory, name: &OsStr) -> Option<FileType> {
    let stat = rustix::fs::statat(&*directory.fd, name, AtFlags::empty()).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

/// Opens the pipe or character device `name` in `directory` for writing, and waits for the reader
/// of a pipe. `path` is its name in messages.
///
/// # Errors
///
/// [`PublishError::Untrusted`] for a symbolic link or a file of another user in a directory that
/// others can write; [`PublishError::Exists`] for a regular file; [`PublishError::Io`] if it cannot
/// be opened.
pub(super) fn open(directory: &Directory, name: &OsStr, path: &Path) -> Result<File, PublishError> {
    let trusted = directory.is_trusted();
    let failed = |errno: Errno| PublishError::from_io("open", path, errno.into());
    let untrusted = |kind| PublishError::Untrusted {
        path: path.into(),
        kind,
    };
    let mut flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut look = AtFlags::empty();
    if !trusted {
        flags |= OFlags::NOFOLLOW;
        look = AtFlags::SYMLINK_NOFOLLOW;
    }
    let judge = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Err(untrusted(Planted::Link)),
        FileType::Fifo if !trusted && !is_own(stat.st_uid) => Err(untrusted(Planted::Pipe)),
        FileType::CharacterDevice if !trusted && !is_own(stat.st_uid) => {
            Err(untrusted(Planted::Device))
        }
        FileType::Fifo | FileType::CharacterDevice => Ok(()),
        _ => Err(PublishError::Exists { path: path.into() }),
    };
    loop {
        // Check before opening, since opening a device may have an effect.
        judge(&rustix::fs::statat(&*directory.fd, name, look).map_err(failed)?)?;
        match rustix::fs::openat(&*directory.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                judge(&rustix::fs::fstat(&fd).map_err(failed)?)?;
                let now = rustix::fs::fcntl_getfl(&fd).map_err(failed)?;
                rustix::fs::fcntl_setfl(&fd, now - OFlags::NONBLOCK).map_err(failed)?;
                return Ok(fd.into());
            }
            // The pipe has no reader yet.
            Err(Errno::NXIO) => std::thread::sleep(AGAIN),
            Err(Errno::INTR) => {}
            Err(Errno::LOOP | Errno::MLINK) => return Err(untrusted(Planted::Link)),
            Err(errno) => return Err(failed(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;
    use std::process::Command;

    /// A directory that all users can write.
    fn shared() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        (dir, directory)
    }

    /// The file that may have been planted, and its kind.
    fn planted(error: PublishError) -> (PathBuf, Planted) {
        match error {
            PublishError::Untrusted { path, kind } => (path, kind),
            other => panic!("{other}"),
        }
    }

    fn fifo(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn regular_file_in_place_of_a_pipe_is_not_written() {
        let (dir, directory) = shared();
        let path = dir.path().join("out");
        fs::write(&path, "precious").unwrap();
        let error = open(&directory, "out".as_ref(), &path).unwrap_err();
        assert!(matches!(error, PublishError::Exists { .. }), "{error}");
        fs::rename(&path, dir.path().join("other")).unwrap();
        symlink("other", &path).unwrap();
        let error = open(&directory, "out".as_ref(), &path).unwrap_err();
        assert_eq!(planted(error), (path, Planted::Link));
        assert_eq!(fs::read(dir.path().join("other")).unwrap(), b"precious");
    }

    #[test]
    fn link_is_followed_only_in_a_private_directory() {
        let (dir, directory) = shared();
        let path = dir.path().join("out");
        symlink("/dev/null", &path).unwrap();
        let error = open(&directory, "out".as_ref(), &path).unwrap_err();
        assert_eq!(planted(error), (path.clone(), Planted::Link));
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        open(&directory, "out".as_ref(), &path).unwrap();
    }

    #[test]
    fn pipe_of_another_user_is_not_written() {
        let (dir, directory) = shared();
        let path = dir.path().join("out");
        fifo(&path);
        // Only root can create a file of another user.
        if chown(&path, Some(12345), None).is_err() {
            return;
        }
        let error = open(&directory, "out".as_ref(), &path).unwrap_err();
        assert_eq!(planted(error), (path.clone(), Planted::Pipe));
        chown(&path, Some(0), None).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        let mut pipe = open(&directory, "out".as_ref(), &path).unwrap();
        std::io::Write::write_all(&mut pipe, b"a dump").unwrap();
        drop(pipe);
        assert_eq!(reader.join().unwrap(), b"a dump");
    }
}
