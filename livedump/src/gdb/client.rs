//! A client of a gdb stub: packets and answers.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::GdbError;
use super::packet::{self, Received};
use crate::qmp::{Address, Stop};

/// The interval for checking a silent socket.
const POLL: Duration = Duration::from_millis(50);

/// The time limit for the packets that resume the guest after the work is cancelled.
const AFTER_STOP: Duration = Duration::from_secs(2);

/// Maximum number of retransmissions of a packet.
const RETRIES: u32 = 3;

/// A connection to a gdb stub.
pub struct Client {
    socket: UnixStream,
    /// Received bytes that are not parsed yet.
    received: Vec<u8>,
    /// The number of packets without an answer. Their answers precede that of the next packet.
    unanswered: usize,
    timeout: Duration,
    stop: Stop,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("socket", &self.socket)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The address that a user gave: `HOST:PORT`, `unix:PATH`, or the path of a Unix socket.
pub fn address(given: &Path) -> Address {
    match given.to_str().and_then(|text| text.strip_prefix("unix:")) {
        Some(path) => Address::Unix(PathBuf::from(path)),
        None => Address::find(given),
    }
}

impl Client {
    /// Connects to the stub at `given`: `HOST:PORT`, `unix:PATH`, or the path of a Unix socket. Each answer must
    /// arrive within `timeout`. Waiting ends with [`GdbError::Cancelled`] when `stop` returns `true`, except for the
    /// packets that resume the guest.
    ///
    /// # Errors
    ///
    /// [`GdbError::Connect`] if nothing listens there.
    pub fn connect(
        given: impl AsRef<Path>,
        timeout: Duration,
        stop: Stop,
    ) -> Result<Self, GdbError> {
        let given = given.as_ref();
        let failed = |source| GdbError::Connect {
            address: given.into(),
            source,
        };
        let begun = Instant::now();
        loop {
            if let Some(fd) = address(given).connect(timeout).map_err(failed)? {
                // A stream socket, also one of TCP.
                return Self::over(UnixStream::from(fd), timeout, stop);
            }
            if stop() {
                return Err(GdbError::Cancelled);
            }
            if begun.elapsed() >= timeout {
                return Err(failed(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Uses a connected socket.
    ///
    /// # Errors
    ///
    /// [`GdbError::Io`] if it cannot be set up.
    pub fn over(socket: UnixStream, timeout: Duration, stop: Stop) -> Result<Self, GdbError> {
        socket
            .set_nonblocking(false)
            .and_then(|()| socket.set_read_timeout(Some(POLL)))
            .and_then(|()| socket.set_write_timeout(Some(POLL)))
            .map_err(GdbError::io("set up the socket"))?;
        Ok(Self {
            socket,
            received: Vec::new(),
            unanswered: 0,
            timeout,
            stop,
        })
    }

    /// Sends a packet and returns the answer. An empty answer means that the stub does not know the packet.
    ///
    /// # Errors
    ///
    /// [`GdbError`] if there is no valid answer in time.
    pub(super) fn ask(&mut self, data: &str) -> Result<Vec<u8>, GdbError> {
        let stop = Arc::clone(&self.stop);
        self.exchange(data, &stop, self.timeout)
    }

    /// Sends a packet even if the work is cancelled, and then waits at most [`AFTER_STOP`] for the answer.
    pub(super) fn ask_always(&mut self, data: &str) -> Result<Vec<u8>, GdbError> {
        let timeout = match (self.stop)() {
            true => self.timeout.min(AFTER_STOP),
            false => self.timeout,
        };
        let never: Stop = Arc::new(|| false);
        self.exchange(data, &never, timeout)
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        // The stub may have ended it already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn exchange(
        &mut self,
        data: &str,
        stop: &Stop,
        timeout: Duration,
    ) -> Result<Vec<u8>, GdbError> {
        let wait = Wait {
            packet: data,
            timeout,
            begun: Instant::now(),
            stop,
        };
        let packet = packet::encode(data);
        self.unanswered += 1;
        self.send(&wait, &packet)?;
        let (mut repeated, mut damaged) = (0, 0);
        loop {
            // An endless sequence of bytes does not extend the time limit.
            wait.check()?;
            let next = packet::next(&mut self.received);
            match next.map_err(|found| wait.protocol(&found, "a packet"))? {
                None => self.receive(&wait)?,
                Some(Received::Acknowledged(true)) => {}
                Some(Received::Acknowledged(false)) => {
                    repeated += 1;
                    if repeated > RETRIES {
                        let found = format!("{repeated} requests to send it again");
                        return Err(wait.protocol(&found, "an answer"));
                    }
                    self.send(&wait, &packet)?;
                }
                Some(Received::Damaged) => {
                    damaged += 1;
                    if damaged > RETRIES {
                        return Err(wait.protocol("a wrong sum", "that of the packet"));
                    }
                    self.send(&wait, b"-")?;
                }
                Some(Received::Packet(answer)) => {
                    self.send(&wait, b"+")?;
                    // The stub reports that the guest stops as soon as it does.
                    let is_stop = matches!(answer.first(), Some(b'T' | b'S'));
                    if is_stop && data != "?" {
                        continue;
                    }
                    self.unanswered -= 1;
                    if self.unanswered == 0 {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    fn send(&mut self, wait: &Wait<'_>, mut bytes: &[u8]) -> Result<(), GdbError> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) => wait.failed(error, "write to the gdb stub")?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, wait: &Wait<'_>) -> Result<(), GdbError> {
        let mut piece = [0; 16 << 10];
        match self.socket.read(&mut piece) {
            Ok(0) => return Err(wait.gone()),
            Ok(n) => self.received.extend_from_slice(&piece[..n]),
            Err(error) => wait.failed(error, "read from the gdb stub")?,
        }
        Ok(())
    }
}

/// Waiting for the answer to a packet.
struct Wait<'a> {
    packet: &'a str,
    timeout: Duration,
    begun: Instant,
    stop: &'a Stop,
}

impl Wait<'_> {
    /// Fails if the wait has timed out or is cancelled.
    fn check(&self) -> Result<(), GdbError> {
        if (self.stop)() {
            return Err(GdbError::Cancelled);
        }
        if self.begun.elapsed() >= self.timeout {
            return Err(GdbError::Timeout {
                packet: self.packet.into(),
                waited: self.timeout,
            });
        }
        Ok(())
    }

    /// Fails with an error of the socket, unless it only has no data or no space yet.
    fn failed(&self, error: io::Error, doing: &'static str) -> Result<(), GdbError> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, TimedOut, WouldBlock};
        match error.kind() {
            WouldBlock | TimedOut | Interrupted => self.check(),
            BrokenPipe | ConnectionReset => Err(self.gone()),
            _ => Err(GdbError::io(doing)(error)),
        }
    }

    fn gone(&self) -> GdbError {
        GdbError::Gone {
            during: self.packet.into(),
        }
    }

    fn protocol(&self, found: &str, expected: &str) -> GdbError {
        GdbError::Protocol {
            packet: self.packet.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_to_an_abandoned_packet_is_not_that_of_the_next() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stop: Stop = Arc::new(|| true);
        let mut client = Client::over(ours, Duration::from_secs(60), stop).unwrap();
        assert!(matches!(client.ask("m0,1"), Err(GdbError::Cancelled)));
        // The answers to both packets, and a stop reply.
        theirs.write_all(b"+$a5#96+$T05#b9$OK#9a").unwrap();
        assert_eq!(client.ask_always("D").unwrap(), b"OK");
        let mut sent = vec![0; 64];
        let got = theirs.read(&mut sent).unwrap();
        assert_eq!(&sent[..got], b"$m0,1#fa$D#44+++");
    }

    #[test]
    fn silent_stub_does_not_delay_the_end_of_cancelled_work() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let stop: Stop = Arc::new(|| true);
        let mut client = Client::over(ours, Duration::from_secs(600), stop).unwrap();
        match client.ask_always("D") {
            Err(GdbError::Timeout { waited, .. }) => assert_eq!(waited, AFTER_STOP),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_have_a_port_or_are_paths() {
        let is = |given: &str, expected: &str| {
            assert_eq!(address(Path::new(given)).to_string(), expected)
        };
        is("localhost:1234", "localhost:1234");
        is("[::1]:1234", "[::1]:1234");
        is("unix:gdb", "gdb");
        is("./gdb", "./gdb");
    }
}
