//! The process that resumes a paused guest if `take --qmp --pause` is killed. Its standard input is
//! a pipe that ends then; its standard output is the QMP socket.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use livecore_livedump::qmp::keep_watch;

use crate::failure::Failure;

/// Waits for the pipe to end, then resumes the guest.
pub(crate) fn run() -> Result<(), Failure> {
    let socket = std::io::stdout().as_fd().try_clone_to_owned()?;
    let mut socket = UnixStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    keep_watch(&mut std::io::stdin().lock(), &mut socket)?;
    Ok(())
}
