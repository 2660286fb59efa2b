//! Where QEMU listens for QMP: a Unix socket, a TCP port, or the socket of a domain of libvirt.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::{Errno, FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

/// Directories of libvirt with a directory `domain-ID-NAME` for each running domain.
const LIBVIRT: [&str; 2] = ["/var/lib/libvirt/qemu", "/run/libvirt/qemu"];
/// The same directory of a user's session, below `XDG_CONFIG_HOME`.
const LIBVIRT_SESSION: &str = "libvirt/qemu/lib";
/// The QMP socket of a domain, in its directory.
const MONITOR: &str = "monitor.sock";
/// libvirt truncates the name in the name of a domain's directory to this many characters.
const NAME_MAX: usize = 20;

/// The address of a QMP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host's name or address, and the port.
    Tcp(String, u16),
}

impl Address {
    /// The address that a user gave: an existing path, `HOST:PORT` (`[HOST]:PORT` for IPv6), or the name of a
    /// running domain of libvirt. Anything else is a path, which does not exist.
    pub fn find(given: impl AsRef<Path>) -> Self {
        let session = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".config"));
        let session = session.or_else(home).map(|dir| dir.join(LIBVIRT_SESSION));
        let directories = LIBVIRT.iter().map(PathBuf::from).chain(session);
        Self::find_in(given.as_ref(), directories)
    }

    fn find_in(given: &Path, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let path = || Self::Unix(given.into());
        let Some(text) = given.to_str() else {
            return path();
        };
        if text.contains('/') || given.exists() {
            return path();
        }
        if let Some((host, port)) = text.rsplit_once(':')
            && let Ok(port) = port.parse()
            && !host.is_empty()
        {
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            return Self::Tcp(bare.unwrap_or(host).into(), port);
        }
        let mut found = directories.into_iter().filter_map(|dir| domain(&dir, text));
        found.next().map_or_else(path, Self::Unix)
    }

    /// Connects without waiting for a server that does not accept. `None` if it has to be tried again.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<Option<OwnedFd>> {
        match self {
            Self::Unix(path) => {
                let address = SocketAddrUnix::new(path)?;
                // Without an accepting server, a blocking connect would wait forever.
                let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
                fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
                ioctl_fionbio(&fd, true)?;
                match connect(&fd, &address) {
                    Ok(()) => Ok(Some(fd)),
                    Err(Errno::AGAIN | Errno::INTR) => Ok(None),
                    Err(errno) => Err(errno.into()),
                }
            }
            Self::Tcp(host, port) => {
                let deadline = Instant::now() + timeout;
                let mut failed = None;
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Some(stream.into()));
                        }
                        Err(error) => failed = Some(error),
                    }
                }
                Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// The monitor of the domain `name` in a directory of libvirt. The highest id is that of the newest one.
fn domain(directory: &Path, name: &str) -> Option<PathBuf> {
    let short: String = name.chars().take(NAME_MAX).collect();
    let entries = std::fs::read_dir(directory).ok()?.flatten();
    let found = entries.filter_map(|entry| {
        let file = entry.file_name();
        let (id, of) = file.to_str()?.strip_prefix("domain-")?.split_once('-')?;
        let id: u32 = id.parse().ok().filter(|_| of == short)?;
        let socket = entry.path().join(MONITOR);
        socket.exists().then_some((id, socket))
    });
    found.max().map(|(_, socket)| socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ports_and_domains_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let find = |text: &str| Address::find_in(text.as_ref(), [dir.path().into()]);
        let tcp = |host: &str| Address::Tcp(host.into(), 4444);
        let unix = |path: &str| Address::Unix(path.into());
        assert_eq!(find("localhost:4444"), tcp("localhost"));
        assert_eq!(find("[::1]:4444"), tcp("::1"));
        assert_eq!(tcp("::1").to_string(), "[::1]:4444");
        assert_eq!(find("./localhost:4444"), unix("./localhost:4444"));
        for path in ["qmp.sock", "host:", ":4444", "host:70000", "host:name"] {
            assert_eq!(find(path), unix(path));
        }
        for name in [
            "domain-2-guest",
            "domain-10-guest",
            "domain-11-guest-2",
            "domain-3-twenty-characters--1",
            "domain-x-guest",
        ] {
            let domain = dir.path().join(name);
            std::fs::create_dir(&domain).unwrap();
            std::fs::write(domain.join(MONITOR), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("domain-12-guest")).unwrap();
        let of = |name: &str| Address::Unix(dir.path().join(name).join(MONITOR));
        assert_eq!(find("guest"), of("domain-10-guest"));
        assert_eq!(find("guest-2"), of("domain-11-guest-2"));
        let long = "twenty-characters--1 and more";
        assert_eq!(find(long), of("domain-3-twenty-characters--1"));
        assert_eq!(find("gues"), unix("gues"));
    }
}
