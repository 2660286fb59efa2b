//! One command, one answer (QEMU `docs/interop/qmp-spec.rst`).
//!
//! A message is a JSON object on a line of its own. Events come at any time between answers and
//! are stepped over, but for those that somebody waits for.

use std::fmt;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use serde_json::{Value, json};

use super::QmpError;

/// The longest message that is taken: the memory tree of a large machine has some 100 KiB.
const MESSAGE_MAX: usize = 16 << 20;

/// How often a silent socket is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Whether somebody wants the work to end.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// A connection to a QMP server, past its greeting.
pub struct Client {
    socket: UnixStream,
    /// What has been received and not been used.
    received: Vec<u8>,
    /// How much of that has been found to have no newline.
    searched: usize,
    timeout: Duration,
    stop: Stop,
    /// The number of the last command. An answer has its command's: one that comes too late is
    /// not taken for the next one's.
    id: u64,
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
    /// Connects to the socket at `path`. Each answer has to come within `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::over`], and [`QmpError`] if nothing listens on the socket.
    pub fn connect(path: impl AsRef<Path>, timeout: Duration) -> Result<Self, QmpError> {
        let path = path.as_ref();
        Self::connect_until(path, timeout, Arc::new(|| false))
    }

    /// The same; whatever waits ends with [`QmpError::Cancelled`] once `stop` says so, but for a
    /// command that lets a guest go on.
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
        let address = SocketAddrUnix::new(path).map_err(|e| failed(e.into()))?;
        let deadline = Instant::now() + timeout;
        loop {
            // Where nobody accepts, connecting would wait for ever.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            let fd = fd.map_err(|e| failed(e.into()))?;
            match connect(&fd, &address) {
                Ok(()) => {
                    let socket = UnixStream::from(fd);
                    socket
                        .set_nonblocking(false)
                        .map_err(QmpError::io("set up the socket"))?;
                    return Self::over_until(socket, timeout, stop);
                }
                Err(Errno::AGAIN) if Instant::now() >= deadline => {
                    return Err(QmpError::Timeout {
                        command: "the connection".into(),
                        waited: timeout,
                    });
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            if stop() {
                return Err(QmpError::Cancelled);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Speaks over a socket that is connected already.
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
        };
        let wait = Wait::new("the greeting", timeout, &client.stop);
        let greeting = client.message(&wait)?;
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

    /// How long an answer may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Has a command executed, and gives what it returns.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU refuses the command, does not answer in time, or its answer is not QMP.
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
        let stop = self.stop.clone();
        self.exchange(command, arguments, descriptor, &stop)
    }

    /// The same, whoever wants the work to end.
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
            // An answer to a command that was given up.
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
            // Events that never end are no answer.
            wait.check()?;
        }
    }

    /// What a command of the human monitor prints.
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
                // Nobody reads.
                Err(Errno::AGAIN | Errno::INTR) => wait.check()?,
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(wait.gone()),
                Err(errno) => return Err(QmpError::io("write to QEMU")(errno.into())),
            }
        }
        Ok(())
    }

    /// The next message.
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

/// Waiting for one answer.
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

    /// Whether there is reason to wait on.
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
    fn an_answer_that_comes_too_late_is_not_taken_for_the_next_ones() {
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
    fn events_and_blank_lines_without_end_are_no_answer() {
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
    fn a_line_that_never_ends_is_refused_and_not_kept() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let piece = vec![b'x'; 1 << 20];
            while (&theirs).write_all(&piece).is_ok() {}
        });
        let error = Client::over(ours, Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, QmpError::Protocol { .. }), "{error}");
        assert!(error.to_string().contains("without a newline"), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
        server.join().unwrap();
    }

    #[test]
    fn who_takes_no_commands_is_waited_for_no_longer_than_asked() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs)
            .write_all(format!("{GREETING}{YES}").as_bytes())
            .unwrap();
        let mut client = Client::over(ours, TIMEOUT).unwrap();
        let begun = Instant::now();
        // More than any socket holds.
        let error = client.monitor(&"x".repeat(8 << 20)).unwrap_err();
        assert!(matches!(error, QmpError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < 20 * TIMEOUT);
    }

    #[test]
    fn who_accepts_nobody_is_waited_for_no_longer_than_asked() {
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
    fn waiting_ends_when_somebody_says_so_but_not_for_a_guest_that_has_to_go_on() {
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
    fn what_is_no_qmp_is_refused() {
        for answer in [&["SSH-2.0-OpenSSH\r\n"][..], &["{}\n"], &["[1, 2]\n"]] {
            let error = client(answer).unwrap_err();
            assert!(matches!(error, QmpError::Protocol { .. }), "{error}");
        }
    }
}
