//! Debugger connections: TCP, Unix sockets, standard input and output.
//!
//! Each debugger has its own thread and [`Session`]; they share the dump. Up to [`CLIENTS_MAX`] are
//! served at once. Up to `TURNED_AWAY_MAX` more get an error packet, further ones are
//! disconnected. A debugger that sends nothing, or does not read its answers, is disconnected to
//! free its slot.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use livecore_livedump::publish::{Directory, Passing};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use livecore_serve::{Flow, Served, Session, frame};

/// The most debuggers that are served at once.
pub(crate) const CLIENTS_MAX: usize = 8;

/// The most debuggers that get an error packet at once.
const TURNED_AWAY_MAX: usize = 8;

/// Time limit for the first packet.
const FIRST_PACKET: Duration = Duration::from_secs(30);

/// Time limit between packets.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// Time limit for reading an answer.
const UNREAD: Duration = Duration::from_secs(60);

/// The longest path of a private socket. `sun_path` has 104 bytes on FreeBSD.
const SOCKET_PATH: usize = 100;

/// Time limit for the first packet of a debugger that gets an error.
const REFUSAL: Duration = Duration::from_secs(2);

/// The longest work of a debugger's requests without a pause.
const WORK: Duration = Duration::from_secs(120);

/// Bytes of requests between two looks at the clock.
const REQUESTS: usize = 64;

/// Idle time after which TCP probes the peer.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Delay before the next `accept` when descriptors or memory are short.
const SHORTAGE: Duration = Duration::from_millis(50);

/// A socket that accepts debuggers.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    /// The socket's private directory, removed after the socket.
    _directory: Option<SocketDirectory>,
    idle: Option<Duration>,
    stopped: AtomicBool,
}

/// A directory of mode 0700, removed when it is dropped or a signal ends the process.
#[derive(Debug)]
struct SocketDirectory {
    _passing: Passing,
    _directory: TempDir,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        path: PathBuf,
        _passing: Passing,
    },
}

/// One connection to a debugger.
trait Connection: Read + Write + Send + Sized {
    /// A second handle for writing, with the write timeout set.
    fn writer(&self) -> io::Result<Self>;
    /// Sets the read timeout.
    fn set_timeout(&self, time: Option<Duration>) -> io::Result<()>;
    /// Shuts down the direction to the debugger.
    fn shutdown_write(&self) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn writer(&self) -> io::Result<Self> {
        // Each answer is awaited, so send it at once.
        self.set_nodelay(true)?;
        self.set_write_timeout(Some(UNREAD))?;
        // A peer that crashed closes no connection.
        set_socket_keepalive(self, true)?;
        set_tcp_keepidle(self, KEEP_ALIVE)?;
        self.try_clone()
    }
    fn set_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)
    }
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Connection for UnixStream {
    fn writer(&self) -> io::Result<Self> {
        self.set_write_timeout(Some(UNREAD))?;
        self.try_clone()
    }
    fn set_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)
    }
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// One of a limited number of slots, freed on drop.
struct Slot<'a>(&'a AtomicUsize);

impl<'a> Slot<'a> {
    fn take(taken: &'a AtomicUsize, most: usize) -> Option<Self> {
        let slot = Self(taken);
        // The counter may briefly exceed `most`; dropping the slot corrects it.
        (taken.fetch_add(1, Ordering::SeqCst) < most).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Listener {
    /// Listens on a TCP address, `HOST:PORT`; port 0 is any free port.
    pub(crate) fn tcp(address: &str) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        Ok(Self {
            socket: Socket::Tcp(TcpListener::bind(&addresses[..])?),
            _directory: None,
            idle: Some(IDLE),
            stopped: AtomicBool::new(false),
        })
    }

    /// Listens on a Unix socket that only its owner can use. Replaces a socket without a listener;
    /// any other file of that name is an error. The name is removed when the listener is dropped or
    /// a signal ends the process.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let name = path.file_name();
        let (Some(parent), Some(name)) = (path.parent(), name) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "invalid socket name",
            ));
        };
        let directory = Directory::open(parent).map_err(io::Error::other)?;
        if let Ok(there) = path.symlink_metadata()
            && there.file_type().is_socket()
            && UnixStream::connect(path)
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        {
            fs::remove_file(path)?;
        }
        // Set the mode before the socket gets its final name.
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let private = tempfile::Builder::new()
            .prefix(".livecore.")
            .tempdir_in(parent)?;
        let first = private.path().join("s");
        let listener = UnixListener::bind(&first)?;
        fs::set_permissions(&first, fs::Permissions::from_mode(0o600))?;
        fs::hard_link(&first, path)?;
        let passing = Passing::new(&directory, name);
        fs::remove_file(&first)?;
        Ok(Self {
            socket: Socket::Unix {
                listener,
                path: path.to_owned(),
                _passing: passing,
            },
            _directory: None,
            idle: Some(IDLE),
            stopped: AtomicBool::new(false),
        })
    }

    /// Listens on a Unix socket in a new directory that only its owner can enter. The directory is
    /// in `XDG_RUNTIME_DIR`, or else in the directory for temporary files, or else in `/tmp`: the
    /// first that exists and keeps the path short enough.
    ///
    /// # Errors
    ///
    /// No directory or no socket can be created.
    pub(crate) fn private() -> io::Result<Self> {
        const DIRECTORY: &str = "livecore.";
        const SOCKET: &str = "gdb";
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let parents = [runtime, Some(std::env::temp_dir()), Some("/tmp".into())];
        let fits = |parent: &PathBuf| {
            let longest = parent.as_os_str().len() + DIRECTORY.len() + SOCKET.len() + 8;
            parent.is_absolute() && parent.is_dir() && longest <= SOCKET_PATH
        };
        let parent = parents.into_iter().flatten().find(fits);
        let parent = parent.ok_or_else(|| {
            io::Error::other("no directory for the socket has a short enough path")
        })?;
        let made = tempfile::Builder::new()
            .prefix(DIRECTORY)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)?;
        let name = made.path().file_name();
        let name = name.ok_or_else(|| io::Error::other("the socket directory has no name"))?;
        let parent = Directory::open(&parent).map_err(io::Error::other)?;
        let listener = Self::unix(&made.path().join(SOCKET))?;
        // Created after the socket's own entry, so that it is removed after it.
        let directory = SocketDirectory {
            _passing: Passing::new(&parent, name),
            _directory: made,
        };
        Ok(Self {
            _directory: Some(directory),
            ..listener
        })
    }

    /// Removes the time limit between packets, for one debugger and its user.
    #[must_use]
    pub(crate) fn without_idle_limit(self) -> Self {
        Self { idle: None, ..self }
    }

    /// The path of the Unix socket.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix { path, .. } => Some(path),
        }
    }

    /// The argument of GDB's `target remote`: `127.0.0.1:1234`, or the socket's path.
    pub(crate) fn address(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(_) => "?".into(),
            },
            Socket::Unix { path, .. } => path.display().to_string(),
        }
    }

    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match &self.socket {
            Socket::Tcp(listener) => {
                listener
                    .local_addr()
                    .is_ok_and(|address| match address.ip() {
                        IpAddr::V6(ip) => ip.to_canonical().is_loopback(),
                        ip => ip.is_loopback(),
                    })
            }
            Socket::Unix { .. } => true,
        }
    }

    /// Serves debuggers until [`Listener::stop`]; with `once` only the first.
    pub(crate) fn serve(&self, served: &Served, once: bool) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(listener) => {
                self.accept(served, once, || listener.accept().map(|(stream, _)| stream))
            }
            Socket::Unix { listener, .. } => {
                self.accept(served, once, || listener.accept().map(|(stream, _)| stream))
            }
        }
    }

    /// Ends [`Listener::serve`] after the connected debuggers have disconnected.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // A connection wakes `accept`. If connecting fails, the socket is gone and `accept` has
        // failed.
        match &self.socket {
            Socket::Tcp(listener) => {
                if let Ok(address) = listener.local_addr() {
                    let _ = TcpStream::connect(address);
                }
            }
            Socket::Unix { path, .. } => {
                let _ = UnixStream::connect(path);
            }
        }
    }

    fn accept<C: Connection>(
        &self,
        served: &Served,
        once: bool,
        mut next: impl FnMut() -> io::Result<C>,
    ) -> io::Result<()> {
        let (busy, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            loop {
                let connection = next();
                if self.stopped.load(Ordering::SeqCst) {
                    return Ok(());
                }
                let connection = match connection {
                    Ok(connection) => connection,
                    Err(e) if is_aborted(&e) => continue,
                    Err(e) if is_shortage(&e) => {
                        std::thread::sleep(SHORTAGE);
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                if once {
                    // A broken connection ends only this session.
                    let _ = talk_within(served, connection, FIRST_PACKET, None);
                    return Ok(());
                }
                // If no thread can be created, dropping the closure closes the connection and frees
                // the slot.
                let spawned = if let Some(slot) = Slot::take(&busy, CLIENTS_MAX) {
                    Builder::new().spawn_scoped(scope, move || {
                        let _slot = slot;
                        let _ = talk_within(served, connection, FIRST_PACKET, self.idle);
                    })
                } else if let Some(slot) = Slot::take(&turned_away, TURNED_AWAY_MAX) {
                    Builder::new().spawn_scoped(scope, move || {
                        let _slot = slot;
                        turn_away(connection);
                    })
                } else {
                    continue;
                };
                drop(spawned);
            }
        })
    }
}

/// Errors of one connection rather than of the listening socket.
fn is_aborted(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Errors that end when other connections close: no descriptors, no memory.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errno.is_some_and(|errno| shortages.contains(&errno))
}

/// Runs a session that fails if no packet arrives within `first`, or later no byte within `idle`.
fn talk_within<C: Connection>(
    served: &Served,
    connection: C,
    first: Duration,
    idle: Option<Duration>,
) -> io::Result<()> {
    let writer = connection.writer()?;
    let until = Instant::now() + first;
    let mut waiting = true;
    let mut set_timeout = |connection: &C, heard: bool| {
        if heard && waiting {
            waiting = false;
            connection.set_timeout(idle)?;
        }
        if waiting {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            connection.set_timeout(Some(left))?;
        }
        Ok(())
    };
    carry(served, connection, writer, &mut set_timeout)
}

/// Runs a session over a pair of streams until one ends or the debugger detaches.
pub(crate) fn converse(served: &Served, reader: impl Read, writer: impl Write) -> io::Result<()> {
    carry(served, reader, writer, &mut |_, _| Ok(()))
}

/// Runs a session. Calls `before_read` with the reader and whether a packet has arrived.
fn carry<R: Read>(
    served: &Served,
    mut reader: R,
    writer: impl Write,
    before_read: &mut dyn FnMut(&R, bool) -> io::Result<()>,
) -> io::Result<()> {
    let mut session = Session::new(served);
    let mut writer = BufWriter::new(writer);
    let mut piece = vec![0; 1 << 14];
    let mut allowance = Allowance::full();
    let mut answers = Vec::new();
    loop {
        before_read(&reader, session.heard())?;
        let silent = Instant::now();
        let got = match reader.read(&mut piece) {
            Ok(0) => return writer.flush(),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        // A read returns at most the length of the buffer.
        allowance.rest(silent.elapsed());
        for requests in piece[..got].chunks(REQUESTS) {
            let (begun, used) = (Instant::now(), processor_time());
            let flow = session.receive(requests, &mut answers)?;
            // A busy machine takes long, and this process is not the reason.
            let worked = begun.elapsed().min(processor_time().saturating_sub(used));
            writer.write_all(&answers)?;
            answers.clear();
            if flow == Flow::Closed {
                return writer.flush();
            }
            let pause = allowance.spend(worked, begun.elapsed());
            if !pause.is_zero() {
                writer.flush()?;
                std::thread::sleep(pause);
            }
        }
        writer.flush()?;
    }
}

/// The processor time of this process so far.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

/// The time that a debugger's requests may take: [`WORK`] at first, and half of the time that passes. A
/// client that never stops sending requests gets half a processor.
struct Allowance(Duration);

impl Allowance {
    fn full() -> Self {
        Self(WORK)
    }

    /// Subtracts `worked` of `passed`, and returns the pause that makes up for what was missing.
    fn spend(&mut self, worked: Duration, passed: Duration) -> Duration {
        let had = (self.0 + passed / 2).min(WORK);
        self.0 = had.saturating_sub(worked);
        // The pause adds half of its length, and is not added again.
        worked.saturating_sub(had) * 2
    }

    /// Adds the time in which the debugger was silent.
    fn rest(&mut self, passed: Duration) {
        self.0 = (self.0 + passed / 2).min(WORK);
    }
}

/// Answers the first packet with an error. GDB prints it; lldb reports a closed connection.
fn turn_away(mut connection: impl Connection) {
    let until = Instant::now() + REFUSAL;
    let _ = connection.set_timeout(Some(REFUSAL));
    let mut buf = [0; 256];
    let mut answered = false;
    // Closing a socket with unread data discards the answer, so read up to the end.
    while Instant::now() < until {
        let Ok(got @ 1..) = connection.read(&mut buf) else {
            return;
        };
        // A read returns at most the length of the buffer.
        if !answered && buf[..got].contains(&b'#') {
            let mut packet = b"+".to_vec();
            let why = format!("E.{CLIENTS_MAX} debuggers are connected already");
            frame(why.as_bytes(), &mut packet);
            if connection
                .write_all(&packet)
                .and_then(|()| connection.shutdown_write())
                .is_err()
            {
                return;
            }
            answered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use livecore_kernel::Pair;
    use livecore_livedump::take::{PlanOptions, plan};
    use livecore_minidump::{AnyDump, KernelElf, OpenOptions};
    use livecore_synth::Machine;

    use super::*;

    /// The dump of an emulated machine, in memory.
    fn served() -> Served {
        let text = "seed = 7\n[memory]\nsize = \"16 MiB\"\n";
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
        let source = std::sync::Arc::new(taken.payload());
        let dump = AnyDump::from_source(source, &OpenOptions::default()).unwrap();
        let pair = Pair::new(&dump, "kernel", elf).unwrap();
        Served::new(pair, "machine", &[]).unwrap()
    }

    #[test]
    fn endless_requests_get_half_of_the_time() {
        let second = Duration::from_secs(1);
        let mut allowance = Allowance::full();
        let mut total = Duration::ZERO;
        let mut pauses = Duration::ZERO;
        for _ in 0..10_000 {
            let pause = allowance.spend(second, second);
            total += second + pause;
            pauses += pause;
        }
        // Two minutes at once, then as much pause as work.
        assert!(
            pauses > total * 48 / 100 && pauses < total * 50 / 100,
            "{pauses:?}"
        );
        let mut rested = Allowance(Duration::ZERO);
        rested.rest(2 * WORK);
        assert_eq!(rested.spend(WORK, WORK), Duration::ZERO);
        assert!(!rested.spend(WORK, WORK).is_zero());
    }

    #[test]
    fn only_a_connection_without_a_packet_times_out() {
        let served = served();
        let first = Duration::from_millis(100);
        for word in [&b""[..], b"+", b"$qAttached#0"] {
            let (mut debugger, connection) = UnixStream::pair().unwrap();
            debugger.write_all(word).unwrap();
            let ended = talk_within(&served, connection, first, None).unwrap_err();
            let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
            assert!(kinds.contains(&ended.kind()), "{ended}");
        }
        let (mut debugger, connection) = UnixStream::pair().unwrap();
        debugger.write_all(b"+$qAttached#8f").unwrap();
        std::thread::scope(|scope| {
            let talk = scope.spawn(|| talk_within(&served, connection, first, None));
            let mut answer = [0; 6];
            debugger.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *b"+$1#31");
            std::thread::sleep(2 * first);
            debugger.write_all(b"+$qAttached#8f").unwrap();
            debugger.read_exact(&mut answer).unwrap();
            drop(debugger);
            assert!(talk.join().unwrap().is_ok());
        });
    }
}
