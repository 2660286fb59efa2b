//! How sessions travel: TCP, a Unix socket, or standard input and output.
//!
//! Each debugger has a thread and a [`Session`] of its own; the dump is shared. Up to
//! [`CLIENTS_MAX`] are served at once; who comes then gets one packet that says so. A debugger that
//! vanishes ends its own session and nothing else.

use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use livedump::place::temporary::{Directory, Passing};

use super::packet::frame;
use super::session::{Flow, Session};
use super::target::Served;

/// The most debuggers that are served at once.
pub const CLIENTS_MAX: usize = 8;

/// How long a debugger that is turned away may take to say something.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where debuggers are waited for.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    stopped: AtomicBool,
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
    fn patience(&self, time: Duration) -> io::Result<()>;
    fn end(&self) -> io::Result<()>;
}

impl Line for TcpStream {
    fn second(&self) -> io::Result<Self> {
        // Answers are waited for one by one.
        self.set_nodelay(true)?;
        self.try_clone()
    }
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Line for UnixStream {
    fn second(&self) -> io::Result<Self> {
        self.try_clone()
    }
    fn patience(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Listener {
    /// Waits on a TCP address, `HOST:PORT`; port 0 is any that is free.
    pub fn tcp(address: &str) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        Ok(Self {
            socket: Socket::Tcp(TcpListener::bind(&addresses[..])?),
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
            stopped: AtomicBool::new(false),
        })
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
        let busy = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            loop {
                let line = match next() {
                    Ok(line) => line,
                    Err(e) if is_passing(&e) => continue,
                    Err(e) => return Err(e),
                };
                if self.stopped.load(Ordering::SeqCst) {
                    return Ok(());
                }
                if once {
                    // A line that breaks is the debugger's business.
                    let _ = talk(served, line);
                    return Ok(());
                }
                if busy.fetch_add(1, Ordering::SeqCst) >= CLIENTS_MAX {
                    busy.fetch_sub(1, Ordering::SeqCst);
                    scope.spawn(move || turn_away(line));
                    continue;
                }
                let busy = &busy;
                scope.spawn(move || {
                    let _ = talk(served, line);
                    busy.fetch_sub(1, Ordering::SeqCst);
                });
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

fn talk(served: &Served, line: impl Line) -> io::Result<()> {
    let writer = line.second()?;
    converse(served, line, writer)
}

/// One session over any pair of streams, until either ends or the debugger takes its leave.
pub fn converse(served: &Served, mut reader: impl Read, writer: impl Write) -> io::Result<()> {
    let mut session = Session::new(served);
    let mut writer = BufWriter::new(writer);
    let mut piece = vec![0; 1 << 14];
    loop {
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
    let _ = line.patience(PATIENCE);
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
