//! How sessions travel: TCP, a Unix socket, or standard input and output.
//!
//! Each debugger has a thread and a [`Session`] of its own; the dump is shared. Up to
//! [`CLIENTS_MAX`] are served at once; who comes then gets one packet that says so, as long as not
//! too many are being told. A debugger that vanishes ends its own session and nothing else. One that
//! sends nothing or does not read its answers is disconnected, so that its place is free again.

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
use tempfile::TempDir;

use livecore_serve::{Flow, Served, Session, frame};

/// The most debuggers that are served at once.
pub const CLIENTS_MAX: usize = 8;

/// The most debuggers that are turned away at once with a word; others without.
const TURNED_AWAY_MAX: usize = 8;

/// How long a debugger may take until its first packet.
const FIRST_PACKET: Duration = Duration::from_secs(30);

/// How long a debugger may send nothing while others may be waiting for its place.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// How long a debugger may leave answers unread.
const UNREAD: Duration = Duration::from_secs(60);

/// The longest path of a private socket. `sun_path` has 104 bytes on FreeBSD.
const SOCKET_PATH: usize = 100;

/// How long a debugger that is turned away may take to say something.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a line has been silent when the other machine is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long to wait for descriptors or memory that somebody else may give back.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Where debuggers are waited for.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// The directory that was made for the socket. It goes after it.
    _folder: Option<Folder>,
    idle: Option<Duration>,
    stopped: AtomicBool,
}

/// A directory of mode 0700, removed when it is dropped or a signal ends the process.
#[derive(Debug)]
struct Folder {
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

/// One line to a debugger.
trait Line: Read + Write + Send + Sized {
    fn second(&self) -> io::Result<Self>;
    fn patience(&self, time: Option<Duration>) -> io::Result<()>;
    fn end(&self) -> io::Result<()>;
}

impl Line for TcpStream {
    fn second(&self) -> io::Result<Self> {
        // Answers are waited for one by one.
        self.set_nodelay(true)?;
        self.set_write_timeout(Some(UNREAD))?;
        // A machine that is gone says no goodbye.
        set_socket_keepalive(self, true)?;
        set_tcp_keepidle(self, KEEP_ALIVE)?;
        self.try_clone()
    }
    fn patience(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)
    }
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Line for UnixStream {
    fn second(&self) -> io::Result<Self> {
        self.set_write_timeout(Some(UNREAD))?;
        self.try_clone()
    }
    fn patience(&self, time: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(time)
    }
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A place among those that are taken; free again when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(taken);
        // Too many are told so by the one that counts itself among them.
        (taken.fetch_add(1, Ordering::SeqCst) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Listener {
    /// Waits on a TCP address, `HOST:PORT`; port 0 is any that is free.
    pub fn tcp(address: &str) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        Ok(Self {
            socket: Socket::Tcp(TcpListener::bind(&addresses[..])?),
            _folder: None,
            idle: Some(IDLE),
            stopped: AtomicBool::new(false),
        })
    }

    /// Waits on a Unix socket that only its owner may connect to. A socket that nobody listens on
    /// any more is replaced, anything else of that name is an error. The name is removed when the
    /// listener is dropped, or a signal ends the process.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let name = path.file_name().and_then(|n| n.to_str());
        let (Some(parent), Some(name)) = (path.parent(), name) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a name for a socket",
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
        // It gets its name when its mode is right.
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
            _folder: None,
            idle: Some(IDLE),
            stopped: AtomicBool::new(false),
        })
    }

    /// Waits on a Unix socket in a new directory that only its owner may enter: in
    /// `XDG_RUNTIME_DIR`, else in the directory for temporary files, else in `/tmp`, the first that
    /// exists and leaves the path short enough.
    ///
    /// # Errors
    ///
    /// If no directory or no socket can be made.
    pub fn private() -> io::Result<Self> {
        const FOLDER: &str = "livecore.";
        const SOCKET: &str = "gdb";
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = [runtime, Some(std::env::temp_dir()), Some("/tmp".into())];
        let fits = |place: &PathBuf| {
            let longest = place.as_os_str().len() + FOLDER.len() + SOCKET.len() + 8;
            place.is_absolute() && place.is_dir() && longest <= SOCKET_PATH
        };
        let place = places.into_iter().flatten().find(fits);
        let place = place.ok_or_else(|| io::Error::other("no directory for a socket"))?;
        let made = tempfile::Builder::new()
            .prefix(FOLDER)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&place)?;
        let name = made.path().file_name().and_then(|n| n.to_str());
        let name =
            name.ok_or_else(|| io::Error::other("the directory for a socket has no name"))?;
        let parent = Directory::open(&place).map_err(io::Error::other)?;
        let listener = Self::unix(&made.path().join(SOCKET))?;
        // After the socket's name, which has to go first.
        let folder = Folder {
            _passing: Passing::new(&parent, name),
            _directory: made,
        };
        Ok(Self {
            _folder: Some(folder),
            ..listener
        })
    }

    /// The same, for one debugger whose user may think for any time.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { idle: None, ..self }
    }

    /// The path of a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match &self.socket {
            Socket::Tcp(_) => None,
            Socket::Unix { path, .. } => Some(path),
        }
    }

    /// What GDB's `target remote` takes: `127.0.0.1:1234`, or the socket's path.
    pub fn address(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(_) => "?".into(),
            },
            Socket::Unix { path, .. } => path.display().to_string(),
        }
    }

    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
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

    /// Serves whoever comes until [`Listener::stop`]; with `once` only the first.
    pub fn serve(&self, served: &Served, once: bool) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(listener) => {
                self.accept(served, once, || listener.accept().map(|(stream, _)| stream))
            }
            Socket::Unix { listener, .. } => {
                self.accept(served, once, || listener.accept().map(|(stream, _)| stream))
            }
        }
    }

    /// Ends [`Listener::serve`] once the debuggers that are there have gone.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // A connection wakes it up; where none is possible nobody waits.
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

    fn accept<L: Line>(
        &self,
        served: &Served,
        once: bool,
        mut next: impl FnMut() -> io::Result<L>,
    ) -> io::Result<()> {
        let (busy, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            loop {
                let line = next();
                if self.stopped.load(Ordering::SeqCst) {
                    return Ok(());
                }
                let line = match line {
                    Ok(line) => line,
                    Err(e) if is_passing(&e) => continue,
                    Err(e) if is_shortage(&e) => {
                        std::thread::sleep(SHORTAGE);
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                if once {
                    // A line that breaks is the debugger's business.
                    let _ = talk_within(served, line, FIRST_PACKET, None);
                    return Ok(());
                }
                // Where no thread can be made, the line and its place go with the closure.
                let spawned = if let Some(place) = Place::take(&busy, CLIENTS_MAX) {
                    Builder::new().spawn_scoped(scope, move || {
                        let _place = place;
                        let _ = talk_within(served, line, FIRST_PACKET, self.idle);
                    })
                } else if let Some(place) = Place::take(&turned_away, TURNED_AWAY_MAX) {
                    Builder::new().spawn_scoped(scope, move || {
                        let _place = place;
                        turn_away(line);
                    })
                } else {
                    continue;
                };
                drop(spawned);
            }
        })
    }
}

/// Errors of one connection, not of the socket that waits.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Errors that are over when others have gone: no descriptors, no memory.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errno.is_some_and(|errno| shortages.contains(&errno))
}

/// A session over a line that is given up if `first` passes without a packet, or later `idle`
/// without a byte.
fn talk_within<L: Line>(
    served: &Served,
    line: L,
    first: Duration,
    idle: Option<Duration>,
) -> io::Result<()> {
    let writer = line.second()?;
    let until = Instant::now() + first;
    let mut waits = true;
    let mut patience = |line: &L, heard: bool| {
        if heard && waits {
            waits = false;
            line.patience(idle)?;
        }
        if waits {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            line.patience(Some(left))?;
        }
        Ok(())
    };
    carry(served, line, writer, &mut patience)
}

/// One session over any pair of streams, until either ends or the debugger takes its leave.
pub fn converse(served: &Served, reader: impl Read, writer: impl Write) -> io::Result<()> {
    carry(served, reader, writer, &mut |_, _| Ok(()))
}

/// A session; before each read `patience` gets the reader and whether there was a packet yet.
fn carry<R: Read>(
    served: &Served,
    mut reader: R,
    writer: impl Write,
    patience: &mut dyn FnMut(&R, bool) -> io::Result<()>,
) -> io::Result<()> {
    let mut session = Session::new(served);
    let mut writer = BufWriter::new(writer);
    let mut piece = vec![0; 1 << 14];
    loop {
        patience(&reader, session.heard())?;
        let got = match reader.read(&mut piece) {
            Ok(0) => return writer.flush(),
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        // A read never says more than the buffer holds.
        let flow = session.receive(&piece[..got], &mut writer)?;
        writer.flush()?;
        if flow == Flow::Closed {
            return Ok(());
        }
    }
}

/// GDB shows the error that answers its first packet; lldb says that the line was closed.
fn turn_away(mut line: impl Line) {
    let until = Instant::now() + PATIENCE;
    let _ = line.patience(Some(PATIENCE));
    let mut some = [0; 256];
    let mut told = false;
    // What was not read when a line is closed takes the answer with it: it is read to its end.
    while Instant::now() < until {
        let Ok(got @ 1..) = line.read(&mut some) else {
            return;
        };
        // A read never says more than the buffer holds.
        if !told && some[..got].contains(&b'#') {
            let mut packet = b"+".to_vec();
            let why = format!("E.{CLIENTS_MAX} debuggers look at this dump already");
            frame(why.as_bytes(), &mut packet);
            if line.write_all(&packet).and_then(|()| line.end()).is_err() {
                return;
            }
            told = true;
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

    /// An emulated machine's dump, in memory.
    fn served() -> Served {
        let text = "seed = 7\n[memory]\nsize = \"16 MiB\"\n";
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
        let source = std::sync::Arc::new(taken.payload());
        let dump = AnyDump::from_source(source, &OpenOptions::default()).unwrap();
        let pair = Pair::new(&dump, "kernel", elf).unwrap();
        Served::new(pair, "machine".as_ref(), &[]).unwrap()
    }

    #[test]
    fn silent_line_is_given_up_and_one_that_has_spoken_is_not() {
        let served = served();
        let first = Duration::from_millis(100);
        for word in [&b""[..], b"+", b"$qAttached#0"] {
            let (mut debugger, line) = UnixStream::pair().unwrap();
            debugger.write_all(word).unwrap();
            let ended = talk_within(&served, line, first, None).unwrap_err();
            let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
            assert!(kinds.contains(&ended.kind()), "{ended}");
        }
        let (mut debugger, line) = UnixStream::pair().unwrap();
        debugger.write_all(b"+$qAttached#8f").unwrap();
        std::thread::scope(|scope| {
            let talk = scope.spawn(|| talk_within(&served, line, first, None));
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
