//! A guest that was paused goes on, even when the one who paused it is killed.
//!
//! The guard is a process of its own, in a process group of its own. It inherits the QMP socket
//! (QEMU serves one client at a time, so a connection of its own would be of no use) and the
//! reading end of a pipe. A byte in the pipe means that all is well; its end without a byte means
//! that nobody is there any more who would let the guest go on, and then the guard does.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Client, QmpError};

/// How long the guard waits for QEMU's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What QEMU says when the guest goes on.
const RESUMED: &[u8] = b"\"RESUME\"";

/// The guard, as seen from the process that it watches. Dropped, it is told that all is well.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts `command`, which has to call [`keep_watch`], as the guard over `client`'s guest.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if the process cannot be started.
    pub fn start(mut command: Command, client: &Client) -> Result<Self, QmpError> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::from(client.duplicate()?))
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(QmpError::io("start the guard"))?;
        Ok(Self { child })
    }

    /// Has the guard let the guest go on now, and waits for it.
    pub fn let_go(mut self) {
        // The pipe ends without a byte.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }

    /// The guard's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            // A guard that is gone needs to be told nothing.
            let _ = pipe.write_all(b".");
        }
        let _ = self.child.wait();
    }
}

/// The guard itself: waits until `watched` ends; without a byte before, tells the QEMU behind
/// `socket` to let the guest go on. Says whether it had to.
///
/// # Errors
///
/// The error of the pipe or the socket.
pub fn keep_watch(
    watched: &mut dyn Read,
    socket: &mut (impl Read + Write),
) -> std::io::Result<bool> {
    let mut byte = [0];
    loop {
        match watched.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // The byte 0xff ends whatever half a command is there, with an error. Then the command proper.
    socket.write_all(b"\xff{\"execute\": \"cont\"}\n")?;
    // QEMU drops what a closed connection has sent: its answers are awaited. However much of them
    // nobody has read yet comes first, and is not kept.
    let begun = Instant::now();
    let mut seen = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while begun.elapsed() < PATIENCE {
        match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => seen.extend_from_slice(&piece[..n]),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock
                | std::io::ErrorKind::TimedOut
                | std::io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        if seen.windows(RESUMED.len()).any(|window| window == RESUMED) {
            break;
        }
        seen.drain(..seen.len().saturating_sub(RESUMED.len()));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_guest_goes_on_only_when_the_pipe_ends_without_a_word() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(!keep_watch(&mut &b"."[..], &mut ours).unwrap());
        ours.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let qemu = std::thread::spawn(move || {
            let mut line = Vec::new();
            while !line.ends_with(b"\n") {
                let mut byte = [0];
                theirs.read_exact(&mut byte).unwrap();
                line.push(byte[0]);
            }
            // What stood before the answer, and more than anybody keeps.
            theirs.write_all(&vec![b'x'; 3 << 20]).unwrap();
            theirs.write_all(b"{\"event\": \"RES").unwrap();
            theirs.write_all(b"UME\"}\n").unwrap();
            line
        });
        assert!(keep_watch(&mut &b""[..], &mut ours).unwrap());
        let line = qemu.join().unwrap();
        assert_eq!(line[0], 0xff);
        let command: serde_json::Value = serde_json::from_slice(&line[1..]).unwrap();
        assert_eq!(command["execute"], "cont");
    }
}
