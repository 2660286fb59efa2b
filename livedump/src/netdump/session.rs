//! One client of the server.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use livecore_defs::kerneldump;

use super::batch::Batch;
use super::ranges::Ranges;

/// The address of a client, and the number of the socket that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The number of the socket.
    pub socket: usize,
    /// The client's address and port.
    pub address: SocketAddr,
}

/// The number of a dump since the start of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u64);

/// Why a message is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The dump would exceed the quota of the client.
    Quota,
    /// The file cannot be created or written.
    Write,
    /// The data that has arrived is in too many ranges.
    Scattered,
}

/// Why no more messages are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The client has sent everything.
    Finished,
    /// The client has sent nothing for the time limit.
    Silent,
    /// The dump has taken longer than the time limit.
    TooLong,
    /// The client has started again.
    Restarted,
    /// The server stops.
    Stopped,
    /// Messages were refused, and the client has given up.
    Refused(Refusal),
}

impl Why {
    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Silent => "silent",
            Self::TooLong => "too-long",
            Self::Restarted => "restarted",
            Self::Stopped => "stopped",
            Self::Refused(Refusal::Quota) => "quota",
            Self::Refused(Refusal::Write) => "not-written",
            Self::Refused(Refusal::Scattered) => "scattered",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "the client has sent everything",
            Self::Silent => "the client stopped sending",
            Self::TooLong => "the dump took longer than the time limit",
            Self::Restarted => "the client started another dump",
            Self::Stopped => "the server was stopped",
            Self::Refused(Refusal::Quota) => "the quota of the client is used up",
            Self::Refused(Refusal::Write) => "the data could not be written",
            Self::Refused(Refusal::Scattered) => "the data arrived in too many pieces",
        })
    }
}

/// What was counted for a dump.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Messages.
    pub packets: u64,
    /// Messages whose data had arrived before.
    pub duplicates: u64,
    /// Messages that were refused.
    pub refused: u64,
}

/// A dump that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub id: Id,
    /// The client.
    pub peer: Peer,
    /// The path in the herald, without its NUL; empty if the client requested none.
    pub path: Vec<u8>,
    /// Why it has ended.
    pub why: Why,
    /// The data that has arrived.
    pub data: Ranges,
    /// The kerneldumpheader, if all of it has arrived.
    pub kdh: Option<[u8; kerneldump::SIZE]>,
    /// The key block without gaps; empty if the dump is not encrypted.
    pub key: Vec<u8>,
    /// The time since the herald.
    pub took: Duration,
    /// What was counted.
    pub statistics: Statistics,
}

/// The state of a client.
#[derive(Debug)]
pub(super) enum Phase {
    /// A herald has arrived, and nothing else.
    Greeted,
    /// Messages with data arrive.
    Receiving,
    /// No more is accepted; the dump is being processed. `finished` is the sequence number of the last
    /// message, and whether it may be acknowledged.
    Closing { finished: Option<u32>, synced: bool },
}

/// A client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Id,
    pub(super) peer: Peer,
    pub(super) phase: Phase,
    pub(super) began: Duration,
    /// When the last message was accepted.
    pub(super) last: Duration,
    pub(super) path: Vec<u8>,
    /// Bytes that the dump may have; `None` before its file is open.
    pub(super) quota: Option<u64>,
    pub(super) data: Ranges,
    pub(super) batch: Batch,
    pub(super) kdh: Part,
    pub(super) key: Part,
    /// The first refusal since the last accepted message.
    pub(super) refused: Option<(Refusal, Duration)>,
    pub(super) statistics: Statistics,
}

impl Session {
    /// A client whose herald has the number `seqno`.
    pub(super) fn new(id: Id, peer: Peer, seqno: u32, path: &[u8], now: Duration) -> Self {
        Self {
            id,
            peer,
            phase: Phase::Greeted,
            began: now,
            last: now,
            path: path.to_vec(),
            quota: None,
            data: Ranges::default(),
            batch: Batch::new(seqno.wrapping_add(1)),
            kdh: Part::default(),
            key: Part::default(),
            refused: None,
            statistics: Statistics::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closing { .. })
    }

    /// Accepts a message.
    pub(super) fn accept(&mut self, now: Duration) {
        self.phase = Phase::Receiving;
        self.last = now;
        self.refused = None;
    }

    /// Refuses a message.
    pub(super) fn refuse(&mut self, why: Refusal, now: Duration) {
        self.statistics.refused += 1;
        self.refused.get_or_insert((why, now));
    }

    /// Takes what has arrived.
    pub(super) fn end(&mut self, why: Why, finished: Option<u32>, now: Duration) -> Ended {
        self.phase = Phase::Closing {
            finished,
            synced: false,
        };
        let kdh = std::mem::take(&mut self.kdh).whole();
        Ended {
            id: self.id,
            peer: self.peer,
            path: std::mem::take(&mut self.path),
            why,
            data: std::mem::take(&mut self.data),
            kdh: kdh.and_then(|bytes| bytes.try_into().ok()),
            key: std::mem::take(&mut self.key).whole().unwrap_or_default(),
            took: now.saturating_sub(self.began),
            statistics: self.statistics,
        }
    }
}

/// A short part of a dump, which the server keeps in memory.
#[derive(Debug, Default)]
pub(super) struct Part {
    bytes: Vec<u8>,
    have: Ranges,
}

impl Part {
    /// Adds `data` at `offset`. The caller limits their sum.
    pub(super) fn put(&mut self, data: &[u8], offset: u64) {
        let end = offset + data.len() as u64;
        let range = offset..end;
        if !self.have.covers(&range) && self.have.has_space_for(&range) {
            // At most 64 KiB.
            let (start, end) = (offset as usize, end as usize);
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[start..end].copy_from_slice(data);
            self.have.add(range);
        }
    }

    /// The bytes, unless some are missing.
    fn whole(self) -> Option<Vec<u8>> {
        let missing = self.have.missing(self.bytes.len() as u64);
        missing.is_empty().then_some(self.bytes)
    }
}
