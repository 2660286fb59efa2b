//! A QMP client: commands and answers (QEMU `docs/interop/qmp-spec.rst`).
//!
//! A message is a JSON object on its own line. Events between answers are skipped, except those of
//! a crash, which are kept.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
use serde_json::{Value, json};

use super::QmpError;
use super::address::Address;
use crate::sys::signals::NO_SIGNAL;

/// The longest message that is accepted; the memory tree of a large machine has some 100 KiB.
const MESSAGE_MAX: usize = 16 << 20;

/// The events that are kept for [`Client::event`].
const AWAITED: [&str; 3] = ["GUEST_PANICKED", "WATCHDOG", "SHUTDOWN"];
/// The number of events that are kept.
const EVENTS: usize = 64;

/// The interval for checking a silent socket.
const POLL: Duration = Duration::from_millis(50);

/// Returns whether the work is to be cancelled.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// A connection to a QMP server after its greeting.
pub struct Client {
    socket: UnixStream,
    /// Received bytes that are not parsed yet.
    received: Vec<u8>,
    /// The number of bytes at their start without a newline.
    searched: usize,
    timeout: Duration,
    stop: Stop,
    /// The id of the last command. Answers contain their command's id, so that a late answer is not
    /// taken for the next one.
    id: u64,
    /// Events that a caller may wait for, at most [`EVENTS`].
    events: VecDeque<Value>,
    passes_files: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.socket)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the socket at `path`, or to what else [`Address::find`] finds. Each answer must arrive within `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::over`], and [`QmpError`] if nothing listens on the socket.
    pub fn connect(path: impl AsRef<Path>, timeout: Duration) -> Result<Self, QmpError> {
        let path = path.as_ref();
        Self::connect_until(path, timeout, Arc::new(|| false))
    }

    /// Connects like [`Client::connect`]. Waiting ends with [`QmpError::Cancelled`] when `stop`
    /// returns `true`, except for the command that resumes a guest.
    ///
    /// # Errors
    ///
    /// Those of [`Client::connect`], and [`QmpError`] if `stop` ends it.
    pub fn connect_until(
        path: impl AsRef<Path>,
        timeout: Duration,
        stop: Stop,
    ) -> Result<Self, QmpError> {
        let path = path.as_ref();
        let failed = |source| QmpError::Connect {
            path: path.into(),
            source,
        };
        let address = Address::find(path);
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(fd) = address.connect(timeout).map_err(failed)? {
                // A stream socket, also one of TCP.
                let socket = UnixStream::from(fd);
                socket
                    .set_nonblocking(false)
                    .map_err(QmpError::io("set up the socket"))?;
                let mut client = Self::over_until(socket, timeout, stop)?;
                client.passes_files = matches!(address, Address::Unix(_));
                return Ok(client);
            }
            if Instant::now() >= deadline {
                return Err(QmpError::Timeout {
                    command: "the connection".into(),
                    waited: timeout,
                });
            }
            if stop() {
                return Err(QmpError::Cancelled);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Uses a connected socket.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if the peer does not greet as QEMU does, or does not answer in time.
    pub fn over(socket: UnixStream, timeout: Duration) -> Result<Self, QmpError> {
        Self::over_until(socket, timeout, Arc::new(|| false))
    }

    fn over_until(socket: UnixStream, timeout: Duration, stop: Stop) -> Result<Self, QmpError> {
        socket
            .set_read_timeout(Some(POLL))
            .and_then(|()| socket.set_write_timeout(Some(POLL)))
            .map_err(QmpError::io("set up the socket"))?;
        let mut client = Self {
            socket,
            received: Vec::new(),
            searched: 0,
            timeout,
            stop,
            id: 0,
            events: VecDeque::new(),
            passes_files: true,
        };
        let wait = Wait::new("the greeting", timeout, &client.stop);
        let greeting = client.message(&wait)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::protocol("the greeting", greeting, "\"QMP\""));
        }
        client.execute("qmp_capabilities", json!({}))?;
        Ok(client)
    }

    /// Duplicates the connection, for the guard process.
    pub(super) fn duplicate(&self) -> Result<OwnedFd, QmpError> {
        let fd = self.socket.as_fd().try_clone_to_owned();
        fd.map_err(QmpError::io("duplicate the socket"))
    }

    /// The time limit for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Executes a command and returns its result.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU refuses the command, does not answer in time, or its answer is not QMP.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None)
    }

    /// Executes a command with a file descriptor for QEMU.
    pub(super) fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let stop = self.stop.clone();
        self.exchange(command, arguments, descriptor, &stop)
    }

    /// Executes a command even if the work is cancelled.
    pub(super) fn execute_anyhow(&mut self, command: &str) -> Result<Value, QmpError> {
        let never: Stop = Arc::new(|| false);
        self.exchange(command, json!({}), None, &never)
    }

    fn exchange(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        stop: &Stop,
    ) -> Result<Value, QmpError> {
        self.id += 1;
        let id = self.id;
        let line = json!({ "execute": command, "arguments": arguments, "id": id });
        let wait = Wait::new(command, self.timeout, stop);
        self.send(&wait, format!("{line}\n").as_bytes(), descriptor)?;
        loop {
            let mut answer = self.message(&wait)?;
            // The answer to a command that was abandoned.
            if answer.get("id").is_some_and(|of| *of != json!(id)) {
                continue;
            }
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
            self.keep(answer);
            // An endless sequence of events does not extend the time limit.
            wait.check()?;
        }
    }

    /// Keeps an event for [`Client::event`], if it is one of a crash. Drops the newest of too many.
    fn keep(&mut self, event: Value) {
        if AWAITED.iter().any(|name| event["event"] == *name) {
            self.events.truncate(EVENTS - 1);
            self.events.push_back(event);
        }
    }

    /// Waits at most `wait` for an event that a caller of [`Guest::next_crash`](super::Guest::next_crash) waits
    /// for.
    pub(super) fn event(&mut self, wait: Duration) -> Result<Option<Value>, QmpError> {
        let wait = Wait::new("an event", wait, &self.stop);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.message(&wait) {
                // The answer to a command that was abandoned may precede it.
                Ok(message) => self.keep(message),
                Err(QmpError::Timeout { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            if matches!(wait.check(), Err(QmpError::Timeout { .. })) && self.events.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Whether QEMU can receive file descriptors over this connection.
    pub(super) fn passes_files(&self) -> bool {
        self.passes_files
    }

    /// Runs a command of the human monitor and returns its output.
    ///
    /// # Errors
    ///
    /// Those of [`Client::execute`].
    pub fn monitor(&mut self, line: &str) -> Result<String, QmpError> {
        let arguments = json!({ "command-line": line });
        match self.execute("human-monitor-command", arguments)? {
            Value::String(text) => Ok(text),
            other => Err(QmpError::protocol(line, other, "a string")),
        }
    }

    fn send(
        &mut self,
        wait: &Wait<'_>,
        mut bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), QmpError> {
        let mut descriptors = descriptor.map(|fd| [fd]);
        while !bytes.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if let Some(fds) = &descriptors {
                // The buffer has space for one.
                ancillary.push(SendAncillaryMessage::ScmRights(fds));
            }
            let sent = sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut ancillary,
                NO_SIGNAL,
            );
            match sent {
                Ok(n) => {
                    bytes = &bytes[n..];
                    descriptors = None;
                }
                // QEMU does not read.
                Err(Errno::AGAIN | Errno::INTR) => wait.check()?,
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(wait.gone()),
                Err(errno) => return Err(QmpError::io("write to QEMU")(errno.into())),
            }
        }
        Ok(())
    }

    /// Reads the next message.
    fn message(&mut self, wait: &Wait<'_>) -> Result<Value, QmpError> {
        loop {
            let rest = &self.received[self.searched..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + end;
                let line: Vec<u8> = self.received.drain(..=end).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    wait.check()?;
                    continue;
                }
                return serde_json::from_slice(&line).map_err(|_| {
                    let found = String::from_utf8_lossy(&line);
                    QmpError::protocol(wait.during, found.trim_end(), "a JSON object")
                });
            }
            self.searched = self.received.len();
            if self.received.len() > MESSAGE_MAX {
                let found = format!("more than {MESSAGE_MAX} bytes without a newline");
                return Err(QmpError::protocol(wait.during, found, "a message"));
            }
            wait.check()?;
            let mut piece = [0; 16 << 10];
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(wait.gone()),
                Ok(n) => self.received.extend_from_slice(&piece[..n]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Err(wait.gone()),
                    _ => return Err(QmpError::io("read from QEMU")(error)),
                },
            }
        }
    }
}

/// The wait for one answer.
struct Wait<'a> {
    during: &'a str,
    timeout: Duration,
    begun: Instant,
    stop: Stop,
}

impl<'a> Wait<'a> {
    fn new(during: &'a str, timeout: Duration, stop: &Stop) -> Self {
        Self {
            during,
            timeout,
            begun: Instant::now(),
            stop: Arc::clone(stop),
        }
    }

    /// Fails if the wait has timed out or is cancelled.
    fn check(&self) -> Result<(), QmpError> {
        if (self.stop)() {
            return Err(QmpError::Cancelled);
        }
        if self.begun.elapsed() >= self.timeout {
            return Err(QmpError::Timeout {
                command: self.during.into(),
                waited: self.timeout,
            });
        }
        Ok(())
    }

    fn gone(&self) -> QmpError {
        QmpError::Gone {
            during: self.during.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    use std::io::{BufRead, BufReader, Write};

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// A client of a server that answers each line with the next of `answers`, then closes the
    /// connection.
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
            // Leave the connection open until the client gives up.
            let _ = lines.read_line(&mut line);
        });
        Client::over(ours, TIMEOUT)
    }

    const GREETING: &str = "{\"QMP\": {}}\r\n";
    const YES: &str = "{\"return\": {}}\r\n";

    #[test]
    fn events_are_skipped_and_answers_returned() {
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
    fn refusals_contain_qemus_message() {
        let answers = &[
            GREETING,
            YES,
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n",
        ];
        let error = client(answers)
            .unwrap()
            .execute("stop", json!({}))
            .unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused `stop`: not now");
    }

    #[test]
    fn missing_answer_times_out() {
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
    fn late_answer_is_not_taken_for_the_next_one() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap());
            let mut next = move || {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                serde_json::from_str::<Value>(&line).unwrap()["id"].clone()
            };
            (&theirs).write_all(GREETING.as_bytes()).unwrap();
            next();
            (&theirs).write_all(YES.as_bytes()).unwrap();
            let late = next();
            let now = next();
            for (id, what) in [(late, "late"), (now, "now")] {
                let line = json!({ "return": what, "id": id });
                (&theirs).write_all(format!("{line}\n").as_bytes()).unwrap();
            }
        });
        let mut client = Client::over(ours, TIMEOUT).unwrap();
        let error = client.execute("stop", json!({})).unwrap_err();
        assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
        assert_eq!(client.execute("query-status", json!({})).unwrap(), "now");
        server.join().unwrap();
    }

    #[test]
    fn endless_events_and_blank_lines_time_out() {
        for noise in ["{\"event\": \"NOISE\"}\n", "\n"] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let server = std::thread::spawn(move || {
                let lines = noise.repeat(4096);
                let _ = (&theirs).write_all(format!("{GREETING}{YES}").as_bytes());
                while (&theirs).write_all(lines.as_bytes()).is_ok() {}
            });
            let mut client = Client::over(ours, TIMEOUT).unwrap();
            let begun = Instant::now();
            let error = client.execute("stop", json!({})).unwrap_err();
            assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
            assert!(begun.elapsed() < 20 * TIMEOUT);
            drop(client);
            server.join().unwrap();
        }
    }

    #[test]
    fn endless_line_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let piece = vec![b'x'; 1 << 20];
            while (&theirs).write_all(&piece).is_ok() {}
        });
        let error = Client::over(ours, Duration::from_secs(60)).unwrap_err();
        let QmpError::Protocol { found, .. } = &error else {
            panic!("{error}");
        };
        assert!(found.contains(&format!(" {MESSAGE_MAX} ")), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
        server.join().unwrap();
    }

    #[test]
    fn blocked_write_times_out() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs)
            .write_all(format!("{GREETING}{YES}").as_bytes())
            .unwrap();
        let mut client = Client::over(ours, TIMEOUT).unwrap();
        let begun = Instant::now();
        // More than a socket buffers.
        let error = client.monitor(&"x".repeat(8 << 20)).unwrap_err();
        assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < 20 * TIMEOUT);
    }

    #[test]
    fn blocked_connect_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = UnixStream::connect(&path).unwrap();
        let error = Client::connect(&path, TIMEOUT).unwrap_err();
        assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
        drop(first);
    }

    #[test]
    fn cancelling_ends_a_wait_but_not_the_resuming_of_a_guest() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        (&theirs)
            .write_all(format!("{GREETING}{YES}").as_bytes())
            .unwrap();
        let stop_when: Stop = Arc::new(move || stopped.load(Ordering::Relaxed));
        let mut client = Client::over_until(ours, Duration::from_secs(60), stop_when).unwrap();
        stop.store(true, Ordering::Relaxed);
        let error = client.execute("query-status", json!({})).unwrap_err();
        assert!(matches!(error, QmpError::Cancelled), "{error}");
        (&theirs).write_all(YES.as_bytes()).unwrap();
        client.execute_anyhow("cont").unwrap();
    }

    #[test]
    fn other_protocols_are_refused() {
        for answer in [&["SSH-2.0-OpenSSH\r\n"][..], &["{}\n"], &["[1, 2]\n"]] {
            let error = client(answer).unwrap_err();
            assert!(matches!(error, QmpError::Protocol { .. }), "{error}");
        }
    }
}
