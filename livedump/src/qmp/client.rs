//! One command, one answer (QEMU `docs/interop/qmp-spec.rst`).
//!
//! A message is a JSON object on a line of its own. Events come at any time between answers and
//! are stepped over, but for those that somebody waits for.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use super::QmpError;

/// The longest message that is taken: the memory tree of a large machine has some 100 KiB.
const MESSAGE_MAX: usize = 16 << 20;

/// How often a silent socket is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A connection to a QMP server, past its greeting.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    /// What has been received and not been used.
    received: Vec<u8>,
    timeout: Duration,
}

impl Client {
    /// Connects to the socket at `path`. Each answer has to come within `timeout`.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, QmpError> {
        let socket = UnixStream::connect(path).map_err(|source| QmpError::Connect {
            path: path.into(),
            source,
        })?;
        Self::over(socket, timeout)
    }

    /// Speaks over a socket that is connected already.
    pub fn over(socket: UnixStream, timeout: Duration) -> Result<Self, QmpError> {
        socket
            .set_read_timeout(Some(POLL))
            .map_err(QmpError::io("set up the socket"))?;
        let mut client = Self {
            socket,
            received: Vec::new(),
            timeout,
        };
        let greeting = client.message("the greeting", timeout)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::protocol("the greeting", greeting, "\"QMP\""));
        }
        client.execute("qmp_capabilities", json!({}))?;
        Ok(client)
    }

    /// The connection once more, for somebody who goes on when this process is gone.
    pub(super) fn duplicate(&self) -> Result<OwnedFd, QmpError> {
        let fd = self.socket.as_fd().try_clone_to_owned();
        fd.map_err(QmpError::io("duplicate the socket"))
    }

    /// Has a command executed, and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None)
    }

    /// The same, with a descriptor that QEMU gets with the command.
    pub(super) fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.send(command, line.as_bytes(), descriptor)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut answer = self.message(command, left)?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let why = error.get("desc").and_then(Value::as_str);
                return Err(QmpError::Refused {
                    command: command.into(),
                    why: why.unwrap_or("no reason given").into(),
                });
            }
            if answer.get("event").is_none() {
                return Err(QmpError::protocol(
                    command,
                    answer,
                    "\"return\" or \"error\"",
                ));
            }
        }
    }

    /// What a command of the human monitor prints.
    pub fn monitor(&mut self, line: &str) -> Result<String, QmpError> {
        let arguments = json!({ "command-line": line });
        match self.execute("human-monitor-command", arguments)? {
            Value::String(text) => Ok(text),
            other => Err(QmpError::protocol(line, other, "a string")),
        }
    }

    fn send(
        &mut self,
        command: &str,
        mut bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), QmpError> {
        let mut descriptors = descriptor.map(|fd| [fd]);
        while !bytes.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if let Some(fds) = &descriptors {
                // There is room for one.
                ancillary.push(SendAncillaryMessage::ScmRights(fds));
            }
            let sent = sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            );
            match sent {
                Ok(n) => {
                    bytes = &bytes[n..];
                    descriptors = None;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => {
                    return Err(QmpError::Gone {
                        during: command.into(),
                    });
                }
                Err(errno) => return Err(QmpError::io("write to QEMU")(errno.into())),
            }
        }
        Ok(())
    }

    /// The next message, which has to come within `wait`.
    fn message(&mut self, during: &str, wait: Duration) -> Result<Value, QmpError> {
        let begun = Instant::now();
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map_err(|_| {
                    QmpError::protocol(during, String::from_utf8_lossy(&line), "a JSON object")
                });
            }
            if self.received.len() > MESSAGE_MAX {
                let found = format!("more than {MESSAGE_MAX} bytes without a newline");
                return Err(QmpError::protocol(during, found, "a message"));
            }
            if begun.elapsed() >= wait {
                return Err(QmpError::Timeout {
                    command: during.into(),
                    waited: self.timeout,
                });
            }
            let mut piece = [0; 16 << 10];
            match self.socket.read(&mut piece) {
                Ok(0) => {
                    return Err(QmpError::Gone {
                        during: during.into(),
                    });
                }
                Ok(n) => self.received.extend_from_slice(&piece[..n]),
                Err(error) => match error.kind() {
                    std::io::ErrorKind::WouldBlock
                    | std::io::ErrorKind::TimedOut
                    | std::io::ErrorKind::Interrupted => {}
                    std::io::ErrorKind::ConnectionReset => {
                        return Err(QmpError::Gone {
                            during: during.into(),
                        });
                    }
                    _ => return Err(QmpError::io("read from QEMU")(error)),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// A client whose server answers each line with the next of `answers`, then closes.
    fn client(answers: &'static [&'static str]) -> Result<Client, QmpError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap());
            for (number, answer) in answers.iter().enumerate() {
                let mut line = String::new();
                if number > 0 && lines.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if (&theirs).write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            let mut line = String::new();
            // What is not answered is waited for until the client gives up.
            let _ = lines.read_line(&mut line);
        });
        Client::over(ours, TIMEOUT)
    }

    const GREETING: &str = "{\"QMP\": {}}\r\n";
    const YES: &str = "{\"return\": {}}\r\n";

    #[test]
    fn events_are_stepped_over_and_answers_are_given() {
        let answers = &[
            GREETING,
            YES,
            "{\"event\": \"STOP\"}\r\n\r\n{\"return\": {\"running\": true}}\r\n",
        ];
        let mut client = client(answers).unwrap();
        let status = client.execute("query-status", json!({})).unwrap();
        assert_eq!(status["running"], true);
    }

    #[test]
    fn refusals_are_in_qemus_own_words() {
        let answers = &[
            GREETING,
            YES,
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n",
        ];
        let error = client(answers)
            .unwrap()
            .execute("stop", json!({}))
            .unwrap_err();
        assert_eq!(error.to_string(), "QEMU refuses stop: not now");
    }

    #[test]
    fn who_does_not_answer_is_waited_for_no_longer_than_asked() {
        let begun = Instant::now();
        let error = client(&[]).unwrap_err();
        assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() >= TIMEOUT);
        let error = client(&[GREETING, YES]).unwrap().execute("cont", json!({}));
        // The server reads the line and closes.
        assert!(
            matches!(error, Err(QmpError::Gone { .. } | QmpError::Timeout { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn what_is_no_qmp_is_refused() {
        for answer in [&["SSH-2.0-OpenSSH\r\n"][..], &["{}\n"], &["[1, 2]\n"]] {
            let error = client(answer).unwrap_err();
            assert!(matches!(error, QmpError::Protocol { .. }), "{error}");
        }
    }
}
