//! Resumes a paused guest even if the process that paused it is killed.
//!
//! The guard is a process in its own process group. It inherits the QMP socket (QEMU serves one
//! client at a time, so it could not open its own connection) and the read end of a pipe. A byte in
//! the pipe means that the guest was resumed; the end of the pipe without a byte means that the
//! process was killed, and the guard resumes the guest.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Client, QmpError};

/// Time limit for QEMU's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// QEMU's event when the guest is resumed.
const RESUMED: &[u8] = b"\"RESUME\"";

/// The guard, in the process that paused the guest. Dropping it dismisses the guard.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts `command`, which must call [`keep_watch`], as the guard of `client`'s guest.
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

    /// Makes the guard resume the guest now, and waits for it.
    pub fn resume_guest(mut self) {
        // End the pipe without a byte.
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
            // If the guard has exited, it needs no byte.
            let _ = pipe.write_all(b".");
        }
        let _ = self.child.wait();
    }
}

/// The guard process: waits until `watched` ends. Without a byte it makes the QEMU that serves
/// `socket` resume the guest. Returns whether it did.
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
    // The byte 0xff ends an incomplete command with an error. The command follows.
    socket.write_all(b"\xff{\"execute\": \"cont\"}\n")?;
    // Wait for the answer, since QEMU drops commands of a closed connection. Unread answers may
    // precede it.
    let begun = Instant::now();
    let mut seen = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while begun.elapsed() < ANSWER_TIMEOUT {
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
    fn guest_is_resumed_only_if_the_pipe_ends_without_a_byte() {
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
            // Unread output before the answer, more than the guard buffers.
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
