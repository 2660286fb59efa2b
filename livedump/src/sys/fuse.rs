//! FUSE file systems: how many threads serve one, and unmounting.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The number of threads that serve requests. With more than one, fuser supports only Linux.
pub const THREADS: usize = if cfg!(target_os = "linux") { 4 } else { 1 };

/// Unmounts the FUSE file system on `directory`. Files that are open there do not prevent it.
///
/// # Errors
///
/// The system's error, or that of the program that unmounts for ordinary users.
#[cfg(target_os = "linux")]
pub fn unmount(directory: &Path) -> io::Result<()> {
    use rustix::mount::UnmountFlags;
    match rustix::mount::unmount(directory, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let run_one = |program| run(program, &["-u", "-z", "-q", "--"], directory);
            run_one("fusermount3").or_else(|_| run_one("fusermount"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Unmounts the FUSE file system on `directory`. Files that are open there do not prevent it.
///
/// # Errors
///
/// The error of umount(8).
#[cfg(not(target_os = "linux"))]
pub fn unmount(directory: &Path) -> io::Result<()> {
    run("umount", &["-f", "--"], directory)
}

fn run(program: &str, options: &[&str], directory: &Path) -> io::Result<()> {
    let status = Command::new(program)
        .args(options)
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{program}: {status}"))),
    }
}
