//! The sockets, the clock and the threads of the server.
//!
//! One thread receives and writes. Two more process dumps that have ended, one dump at a time: the first
//! syncs them, so that their last message can be acknowledged, the second seals them. All dumps that are
//! received or processed count as clients, which bounds the queues.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use livecore_compress::Progress;
use livecore_defs::netdump::{PACKET_MAX, ack};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};

use super::host::Hosts;
use super::keep::{Checking, KeepOptions, Kept, keep};
use super::server::{Limits, Server, Sink};
use super::session::{Ended, Id, Peer, Why};
use super::store::{self, Incoming, Names};
use crate::publish::PublishError;

/// Receive buffer for each client: what it sends before it waits, with the system's own overhead.
const BUFFER: usize = 256 << 10;

/// Maximum receive buffer.
const BUFFER_MAX: usize = 64 << 20;

/// Packets that are received before other work is checked.
const BURST: usize = 256;

/// Interval of [`Events::counters`] while packets arrive.
const REPORT: Duration = Duration::from_secs(15);

/// The sockets that heralds arrive at.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
    buffer: usize,
    wanted: usize,
}

impl Sockets {
    /// Binds a socket to each address, for up to `clients` clients.
    ///
    /// # Errors
    ///
    /// The system's error, and the address.
    pub fn bind(addresses: &[SocketAddr], clients: usize) -> Result<Self, (SocketAddr, io::Error)> {
        let wanted = clients.saturating_mul(BUFFER).min(BUFFER_MAX);
        let mut bound = Self {
            sockets: Vec::new(),
            addresses: Vec::new(),
            buffer: usize::MAX,
            wanted,
        };
        for address in addresses {
            let failed = |e| (*address, e);
            let socket = UdpSocket::bind(address).map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            // FreeBSD refuses more than kern.ipc.maxsockbuf, Linux uses net.core.rmem_max.
            let mut size = wanted;
            while set_socket_recv_buffer_size(&socket, size).is_err() && size > BUFFER {
                size /= 2;
            }
            let got = socket_recv_buffer_size(&socket).map_err(|e| failed(e.into()))?;
            bound.buffer = bound.buffer.min(got);
            bound.addresses.push(socket.local_addr().map_err(failed)?);
            bound.sockets.push(socket);
        }
        Ok(bound)
    }

    /// The addresses with their ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The size of the smallest receive buffer, and the size that all clients need, if it is smaller.
    pub fn small_buffer(&self) -> Option<(usize, usize)> {
        (self.buffer < self.wanted).then_some((self.buffer, self.wanted))
    }
}

/// Options of the server.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Limits of clients and time.
    pub limits: Limits,
    /// The directory of the dumps.
    pub directory: PathBuf,
    /// Maximum size of all dumps of a host in their directory, in bytes.
    pub quota: u64,
    /// The names of hosts.
    pub hosts: Hosts,
    /// How dumps are processed.
    pub keep: KeepOptions,
    /// Whether to return after the first dump.
    pub once: bool,
}

/// Receives reports, on the thread that called [`serve`].
pub trait Events {
    /// A dump has begun. `granted`: in the directory that the client requested.
    fn began(&mut self, peer: Peer, host: &str, path: &[u8], granted: bool);

    /// A dump is refused, because it has no file or would exceed the quota.
    fn refused(&mut self, peer: Peer, host: &str, why: &str);

    /// A dump was processed.
    fn ended(&mut self, ended: &Ended, kept: &Kept);

    /// The counters, as text for Prometheus.
    fn counters(&mut self, text: &str);

    /// Whether to stop. The server calls it after a byte from the stop socket, and at intervals.
    fn stops(&mut self) -> bool;
}

/// A dump that the threads process.
struct Job {
    ended: Ended,
    incoming: Option<Incoming>,
    host: String,
}

/// What the threads report.
enum Done {
    Synced(Id),
    Kept(Box<(Ended, Kept)>),
}

/// Wakes the receiving thread.
struct Wake<'a>(&'a UnixStream);

impl Wake<'_> {
    fn up(&self) {
        // If the socket is full, the thread wakes up anyway.
        let _ = (&mut &*self.0).write(&[0]);
    }
}

/// Cancels the work of the threads.
struct Stop<'a>(&'a AtomicBool);

impl Progress for Stop<'_> {
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until [`Events::stops`], or until the first dump ended if `serving.once` is set. Then keeps
/// what has arrived of other dumps, as it is. A byte from `stop` wakes the server.
///
/// # Errors
///
/// The system's error for a socket.
pub fn serve(
    sockets: &Sockets,
    serving: &Serving,
    check: Checking<'_>,
    stop: BorrowedFd<'_>,
    events: &mut dyn Events,
) -> io::Result<()> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let stopping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (to_sync, jobs) = channel::<Job>();
        let (done, results) = channel::<Done>();
        let (to_seal, synced) = channel::<Job>();
        let (wake, stopping) = (&wake, &stopping);
        let report = done.clone();
        let spawn = |name: &str| std::thread::Builder::new().name(name.into());
        spawn("sync").spawn_scoped(scope, move || sync(&jobs, &to_seal, &report, &Wake(wake)))?;
        let progress = Stop(stopping);
        spawn("seal").spawn_scoped(scope, move || {
            for job in synced {
                let Job {
                    ended,
                    incoming,
                    host,
                } = job;
                let kept = keep(incoming, host, &ended, &serving.keep, check, &progress);
                let _ = done.send(Done::Kept(Box::new((ended, kept))));
                Wake(wake).up();
            }
        })?;
        let mut receiver = Receiving {
            sockets,
            server: Server::new(serving.limits),
            sink: Files {
                sockets,
                serving,
                names: Names::default(),
                files: HashMap::new(),
                to_sync: Some(to_sync),
                events,
            },
            began: Instant::now(),
            reported: (Instant::now(), None),
        };
        let result = receiver.run(&woken, stop, &results);
        stopping.store(true, Ordering::Relaxed);
        receiver.finish(&results);
        result
    })
}

/// Syncs finished dumps, and passes all on.
fn sync(jobs: &Receiver<Job>, to_seal: &Sender<Job>, done: &Sender<Done>, wake: &Wake<'_>) {
    for job in jobs {
        let file = job.incoming.as_ref().and_then(Incoming::file);
        if job.ended.why == Why::Finished && file.is_none_or(|file| file.sync_data().is_ok()) {
            let _ = done.send(Done::Synced(job.ended.id));
            wake.up();
        }
        let _ = to_seal.send(job);
    }
}

/// The receiving thread.
struct Receiving<'a> {
    sockets: &'a Sockets,
    server: Server,
    sink: Files<'a>,
    began: Instant,
    /// When the counters were reported, and what they were.
    reported: (Instant, Option<String>),
}

impl Receiving<'_> {
    fn run(
        &mut self,
        woken: &UnixStream,
        stop: BorrowedFd<'_>,
        results: &Receiver<Done>,
    ) -> io::Result<()> {
        let mut packet = vec![0; PACKET_MAX];
        self.report(true);
        loop {
            let timeout = self
                .server
                .deadline()
                .map(|at| at.saturating_sub(self.now()));
            let timeout = timeout.unwrap_or(REPORT).min(REPORT);
            let mut waiting: Vec<_> = self.sockets.sockets.iter().map(AsFd::as_fd).collect();
            waiting.extend([woken.as_fd(), stop]);
            let mut waiting: Vec<_> = waiting
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            match poll(&mut waiting, Timespec::try_from(timeout).ok().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
            for (number, _) in is_ready.iter().enumerate().filter(|(_, ready)| **ready) {
                if let Some(socket) = self.sockets.sockets.get(number) {
                    self.receive(number, socket, &mut packet)?;
                }
            }
            while matches!((&mut &*woken).read(&mut packet), Ok(n) if n > 0) {}
            if is_ready.last() == Some(&true) {
                // Bytes that do not mean a stop must not wake the server again.
                let _ = rustix::io::read(stop, &mut packet[..]);
            }
            let ended = self.take_results(results.try_iter().collect());
            let now = self.now();
            self.server.tick(now, &mut self.sink);
            self.report(ended > 0);
            if self.sink.events.stops() || ended > 0 && self.sink.serving.once {
                return Ok(());
            }
        }
    }

    /// Handles the packets that have arrived at a socket.
    fn receive(&mut self, number: usize, socket: &UdpSocket, packet: &mut [u8]) -> io::Result<()> {
        for _ in 0..BURST {
            match socket.recv_from(packet) {
                Ok((len, address)) => {
                    let peer = Peer {
                        socket: number,
                        address,
                    };
                    let now = self.now();
                    self.server
                        .packet(now, peer, &packet[..len], &mut self.sink);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // A packet that was sent before could not be delivered.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::Interrupted
                            | io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::HostUnreachable
                            | io::ErrorKind::NetworkUnreachable
                    ) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Processes the results of the threads. Returns the number of dumps that they kept.
    fn take_results(&mut self, results: Vec<Done>) -> usize {
        let mut ended = 0;
        for result in results {
            match result {
                Done::Synced(id) => self.server.synced(id, &mut self.sink),
                Done::Kept(done) => {
                    let (dump, kept) = *done;
                    let is_complete = kept.problems.is_empty();
                    let lost = kept.missing.iter().map(|range| range.end - range.start);
                    let counters = self.server.counters_mut();
                    counters.missing = counters.missing.saturating_add(lost.sum());
                    counters.complete += u64::from(is_complete);
                    counters.incomplete += u64::from(!is_complete);
                    self.server.done(dump.id);
                    self.sink.events.ended(&dump, &kept);
                    ended += usize::from(kept.is_dump());
                }
            }
        }
        ended
    }

    /// Ends all dumps and waits until they are processed.
    fn finish(&mut self, results: &Receiver<Done>) {
        let now = self.now();
        self.server.stop(now, &mut self.sink);
        self.sink.to_sync = None;
        for result in results {
            self.take_results(vec![result]);
        }
        self.report(true);
    }

    /// Reports the counters if they have changed: `at_once`, or from time to time.
    fn report(&mut self, at_once: bool) {
        if !at_once && self.reported.0.elapsed() < REPORT {
            return;
        }
        let text = self.server.counters().text(self.server.clients());
        if self.reported.1.as_ref() != Some(&text) {
            self.sink.events.counters(&text);
            self.reported.1 = Some(text);
        }
        self.reported.0 = Instant::now();
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The files of the dumps that arrive.
struct Files<'a> {
    sockets: &'a Sockets,
    serving: &'a Serving,
    names: Names,
    files: HashMap<Id, Incoming>,
    to_sync: Option<Sender<Job>>,
    events: &'a mut dyn Events,
}

impl Files<'_> {
    fn create(
        &self,
        host: &str,
        directory: &Path,
    ) -> Result<(Incoming, u64), Result<PublishError, u64>> {
        let used = store::used(directory, host)
            .map_err(|e| Ok(PublishError::from_io("read", directory, e)))?;
        let left = self.serving.quota.saturating_sub(used);
        if left == 0 {
            return Err(Err(used));
        }
        let file = Incoming::create(directory, host, &self.names).map_err(Ok)?;
        Ok((file, left))
    }
}

impl Sink for Files<'_> {
    fn ack(&mut self, peer: Peer, seqno: u32) {
        // The client repeats a message whose acknowledgement is lost.
        let _ = self.sockets.sockets[peer.socket].send_to(&ack(seqno), peer.address);
    }

    fn open(&mut self, id: Id, peer: Peer, path: &[u8]) -> Option<u64> {
        let host = self.serving.hosts.name(peer.address.ip());
        let (directory, granted) = store::directory(&self.serving.directory, path);
        match self.create(&host, &directory) {
            Ok((incoming, left)) => {
                self.events.began(peer, &host, path, granted);
                self.files.insert(id, incoming);
                Some(left)
            }
            Err(error) => {
                let why = match error {
                    Ok(error) => error.to_string(),
                    Err(used) => format!(
                        "old dumps use the quota: {used} of {} bytes",
                        self.serving.quota
                    ),
                };
                self.events.refused(peer, &host, &why);
                None
            }
        }
    }

    fn write(&mut self, id: Id, offset: u64, data: &[u8]) -> bool {
        let Some(file) = self.files.get_mut(&id) else {
            return false;
        };
        file.write(data, offset).is_ok()
    }

    fn end(&mut self, ended: Ended) {
        let job = Job {
            incoming: self.files.remove(&ended.id),
            host: self.serving.hosts.name(ended.peer.address.ip()),
            ended,
        };
        if let Some(to_sync) = &self.to_sync {
            // The thread ends only after this sender.
            let _ = to_sync.send(job);
        }
    }
}
