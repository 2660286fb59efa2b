//! The state machine of the server: packets and the time in; acknowledgements, writes and ended dumps
//! out.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use livecore_defs::kerneldump;
use livecore_defs::netdump::{Header, KEY_MAX, Kind, PATH_MAX};

use super::counters::Counters;
use super::session::{Ended, Id, Peer, Phase, Refusal, Session, Why};

/// A herald after data, within this time of the last message, is a late duplicate: no machine panics,
/// boots and panics again so fast. It is not acknowledged, so that a client that did start again
/// repeats it.
const RESTART: Duration = Duration::from_secs(3);

/// Time limit for data after a herald. A client that sends a herald gives up earlier.
const GREETED: Duration = Duration::from_secs(30);

/// Time without data after which a client that has only sent a herald can lose its slot. A client sends
/// data as soon as the herald is acknowledged.
const IDLE: Duration = Duration::from_secs(3);

/// Time after which a client whose messages are refused has given up: ten retransmissions, one a second.
const REFUSED: Duration = Duration::from_secs(30);

/// Number of processed dumps whose last message is acknowledged again.
const LAST_MAX: usize = 64;

/// Limits of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of dumps that are received or processed at once. One address has at most half of them.
    pub clients: NonZeroUsize,
    /// Time without messages after which a dump has ended.
    pub silence: Duration,
    /// Time for a whole dump.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            silence: Duration::from_secs(600),
            total: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Receives what the server does.
pub trait Sink {
    /// Sends the acknowledgement of message `seqno`, which may be another one than the last.
    fn ack(&mut self, peer: Peer, seqno: u32);

    /// Creates the file of a dump. `path` is the path that the client requests; it is not checked. Returns
    /// the number of bytes that the dump may have, or `None` if there is no file.
    fn open(&mut self, id: Id, peer: Peer, path: &[u8]) -> Option<u64>;

    /// Writes `data` at `offset` of the dump. Returns whether it was written.
    fn write(&mut self, id: Id, offset: u64, data: &[u8]) -> bool;

    /// Processes a dump that has ended. The server keeps its slot until [`Server::done`].
    fn end(&mut self, ended: Ended);
}

/// The server. The time is a duration since any fixed point.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    sessions: Vec<Session>,
    next: u64,
    /// The last messages of dumps that were processed: their acknowledgements may be lost.
    last: VecDeque<(Peer, u32)>,
    counters: Counters,
    stopped: bool,
}

impl Server {
    /// A server without clients.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: Vec::new(),
            next: 0,
            last: VecDeque::new(),
            counters: Counters::default(),
            stopped: false,
        }
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The counters, for what happens to dumps after they have ended.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Number of dumps that are received or processed.
    pub fn clients(&self) -> usize {
        self.sessions.len()
    }

    /// Handles a packet.
    pub fn packet(&mut self, now: Duration, peer: Peer, packet: &[u8], sink: &mut dyn Sink) {
        self.counters.packets += 1;
        let Ok((header, data)) = Header::parse(packet) else {
            self.counters.malformed += 1;
            return;
        };
        match header.kind {
            Kind::Herald => self.herald(now, peer, header, data, sink),
            _ => self.message(now, peer, header, data, sink),
        }
    }

    /// Ends the dumps whose time is over.
    pub fn tick(&mut self, now: Duration, sink: &mut dyn Sink) {
        let limits = self.limits;
        let before = self.sessions.len();
        self.sessions.retain(|session| {
            !matches!(session.phase, Phase::Greeted) || now < session.last + GREETED
        });
        self.counters.empty += (before - self.sessions.len()) as u64;
        for session in self.sessions.iter_mut().filter(|s| s.is_open()) {
            let why = match session.refused {
                Some((refusal, since)) if now >= since + REFUSED => Why::Refused(refusal),
                _ if now >= session.last + limits.silence => Why::Silent,
                _ if now >= session.began + limits.total => Why::TooLong,
                _ => continue,
            };
            sink.end(session.end(why, None, now));
        }
    }

    /// The time at which [`Server::tick`] has work, if no packet arrives before.
    pub fn deadline(&self) -> Option<Duration> {
        let of = |session: &Session| match session.phase {
            Phase::Closing { .. } => None,
            Phase::Greeted => Some(session.last + GREETED),
            Phase::Receiving => {
                let silent = session.last + self.limits.silence;
                let long = session.began + self.limits.total;
                let refused = session.refused.map(|(_, since)| since + REFUSED);
                Some(silent.min(long).min(refused.unwrap_or(silent)))
            }
        };
        self.sessions.iter().filter_map(of).min()
    }

    /// Ends all dumps. No herald is accepted any more.
    pub fn stop(&mut self, now: Duration, sink: &mut dyn Sink) {
        self.stopped = true;
        self.sessions
            .retain(|session| !matches!(session.phase, Phase::Greeted));
        for session in self.sessions.iter_mut().filter(|s| s.is_open()) {
            sink.end(session.end(Why::Stopped, None, now));
        }
    }

    /// States that the data of a finished dump is on the disk. Acknowledges its last message.
    pub fn synced(&mut self, id: Id, sink: &mut dyn Sink) {
        let session = self.sessions.iter_mut().find(|session| session.id == id);
        if let Some(session) = session
            && let Phase::Closing {
                finished: Some(seqno),
                synced,
            } = &mut session.phase
        {
            *synced = true;
            self.counters.acks += 1;
            sink.ack(session.peer, *seqno);
        }
    }

    /// States that a dump was processed. Frees its slot.
    pub fn done(&mut self, id: Id) {
        let Some(at) = self.sessions.iter().position(|session| session.id == id) else {
            return;
        };
        let session = self.sessions.remove(at);
        if let Phase::Closing {
            finished: Some(seqno),
            synced: true,
        } = session.phase
        {
            self.last.push_back((session.peer, seqno));
            if self.last.len() > LAST_MAX {
                self.last.pop_front();
            }
        }
    }

    fn herald(
        &mut self,
        now: Duration,
        peer: Peer,
        header: Header,
        path: &[u8],
        sink: &mut dyn Sink,
    ) {
        if path.len() > PATH_MAX || self.stopped {
            self.counters.malformed += u64::from(path.len() > PATH_MAX);
            return;
        }
        // Without the NUL, or empty if there is none: the default directory.
        let path = path.strip_suffix(&[0]).unwrap_or_default();
        for session in self.sessions.iter_mut().filter(|s| s.peer == peer) {
            match session.phase {
                Phase::Greeted => {
                    session.last = now;
                    session.path = path.to_vec();
                    self.counters.acks += 1;
                    sink.ack(peer, header.seqno);
                    return;
                }
                _ if now < session.last + RESTART => {
                    self.counters.duplicates += 1;
                    return;
                }
                Phase::Receiving => sink.end(session.end(Why::Restarted, None, now)),
                Phase::Closing { .. } => {}
            }
        }
        if !self.has_slot(now, peer) {
            self.counters.busy += 1;
            return;
        }
        let id = Id(self.next);
        self.next += 1;
        let session = Session::new(id, peer, header.seqno, path, now);
        self.sessions.push(session);
        self.counters.heralds += 1;
        self.counters.acks += 1;
        sink.ack(peer, header.seqno);
    }

    /// Whether there is a slot for `peer`. If there is none, the oldest client that has sent no data for a
    /// while loses its.
    fn has_slot(&mut self, now: Duration, peer: Peer) -> bool {
        let all = self.limits.clients.get();
        let is_same = |session: &Session| session.peer.address.ip() == peer.address.ip();
        let same = self.sessions.iter().filter(|s| is_same(s)).count();
        let is_full_for_address = same >= all.div_ceil(2);
        if !is_full_for_address && self.sessions.len() < all {
            return true;
        }
        let is_idle = |s: &Session| {
            let is_old = matches!(s.phase, Phase::Greeted) && now >= s.last + IDLE;
            is_old && (!is_full_for_address || is_same(s))
        };
        let Some(oldest) = self.sessions.iter().position(is_idle) else {
            return false;
        };
        self.sessions.remove(oldest);
        self.counters.empty += 1;
        true
    }

    fn message(
        &mut self,
        now: Duration,
        peer: Peer,
        header: Header,
        data: &[u8],
        sink: &mut dyn Sink,
    ) {
        let mut same = self.sessions.iter_mut().filter(|s| s.peer == peer);
        let Some(session) = same.find(|session| session.is_open()) else {
            self.counters.unknown += 1;
            self.repeat_ack(peer, header, sink);
            return;
        };
        session.statistics.packets += 1;
        let end = header.offset.checked_add(data.len() as u64);
        let range = end.map(|end| header.offset..end);
        let taken = match (header.kind, range) {
            (Kind::Finished, _) => {
                sink.end(session.end(Why::Finished, Some(header.seqno), now));
                return;
            }
            (_, None) => None,
            (Kind::Vmcore, Some(range)) => {
                if session.data.covers(&range) {
                    self.counters.duplicates += 1;
                    session.statistics.duplicates += 1;
                    Some(Ok(()))
                } else {
                    let written = write(session, range, data, sink);
                    self.counters.bytes += written.map_or(0, |()| data.len() as u64);
                    Some(written)
                }
            }
            (Kind::Kdh, Some(range)) if range.end <= kerneldump::SIZE as u64 => {
                session.kdh.put(data, header.offset);
                Some(Ok(()))
            }
            (Kind::EkcdKey, Some(range)) if range.end <= KEY_MAX => {
                session.key.put(data, header.offset);
                Some(Ok(()))
            }
            _ => None,
        };
        match taken {
            None => self.counters.malformed += 1,
            Some(Err(why)) => {
                session.refuse(why, now);
                self.counters.refused += 1;
            }
            Some(Ok(())) => {
                session.accept(now);
                if header.kind != Kind::Vmcore {
                    session.batch.begin(header.seqno.wrapping_add(1));
                    self.counters.acks += 1;
                    return sink.ack(peer, header.seqno);
                }
                for seqno in session.batch.arrive(header.seqno, data.len()) {
                    self.counters.acks += 1;
                    sink.ack(peer, seqno);
                }
            }
        }
    }

    /// Repeats the acknowledgement of a last message that was lost.
    fn repeat_ack(&mut self, peer: Peer, header: Header, sink: &mut dyn Sink) {
        let is_synced = |session: &Session| {
            let Phase::Closing { finished, synced } = session.phase else {
                return false;
            };
            session.peer == peer && synced && finished == Some(header.seqno)
        };
        let was_last = self.last.contains(&(peer, header.seqno));
        if header.kind == Kind::Finished && (was_last || self.sessions.iter().any(is_synced)) {
            self.counters.acks += 1;
            sink.ack(peer, header.seqno);
        }
    }
}

/// Writes data that has not arrived before.
fn write(
    session: &mut Session,
    range: std::ops::Range<u64>,
    data: &[u8],
    sink: &mut dyn Sink,
) -> Result<(), Refusal> {
    if session.quota.is_none() && session.refused.is_none() {
        session.quota = sink.open(session.id, session.peer, &session.path);
    }
    let Some(quota) = session.quota else {
        return Err(Refusal::Write);
    };
    if range.end > quota {
        return Err(Refusal::Quota);
    }
    if !session.data.has_space_for(&range) {
        return Err(Refusal::Scattered);
    }
    if !sink.write(session.id, range.start, data) {
        return Err(Refusal::Write);
    }
    session.data.add(range);
    Ok(())
}
