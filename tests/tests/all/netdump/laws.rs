//! The laws of the server of netdump(4), for tests and for the fuzz target `netdump`.
//!
//! The test has a model of each client's dump. After every packet, it checks that the server has written
//! what it has acknowledged, and that the server stays within its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use livecore_livedump::netdump::{Ended, Id, Limits, Peer, RANGES_MAX, Server, Sink, Why};

/// The most bytes that a dump may have.
pub(crate) const QUOTA: u64 = 1 << 20;

/// Number of clients at once.
pub(crate) const CLIENTS: usize = 4;

/// The world of the server: files in memory, and what was sent.
#[derive(Default)]
pub(crate) struct World {
    /// The files of dumps that arrive.
    files: BTreeMap<Id, BTreeMap<u64, u8>>,
    /// Acknowledgements that were sent and not taken.
    pub(crate) acks: Vec<(Peer, u32)>,
    /// Dumps that have ended and are being processed.
    pub(crate) ended: Vec<Ended>,
    seen: BTreeSet<Id>,
    /// Files cannot be created or written.
    pub(crate) is_full: bool,
    /// Whether data is stored, or only checked.
    keeps: bool,
}

impl World {
    /// A world that stores the data of dumps.
    pub(crate) fn keeping() -> Self {
        Self {
            keeps: true,
            ..Self::default()
        }
    }

    /// The bytes of a dump, in order of offsets.
    #[cfg_attr(not(test), expect(dead_code, reason = "not called by the fuzz target"))]
    pub(crate) fn file(&self, id: Id) -> Vec<u8> {
        self.files
            .get(&id)
            .map_or_else(Vec::new, |file| file.values().copied().collect())
    }
}

impl Sink for World {
    fn ack(&mut self, peer: Peer, seqno: u32) {
        self.acks.push((peer, seqno));
    }

    fn open(&mut self, id: Id, _peer: Peer, path: &[u8]) -> Option<u64> {
        assert!(!self.files.contains_key(&id), "a file is created once");
        assert!(path.len() < 1024);
        if self.is_full {
            return None;
        }
        self.files.insert(id, BTreeMap::new());
        Some(QUOTA)
    }

    fn write(&mut self, id: Id, offset: u64, data: &[u8]) -> bool {
        let file = self
            .files
            .get_mut(&id)
            .expect("a file is open before it is written");
        let end = offset
            .checked_add(data.len() as u64)
            .expect("no offset overflows");
        assert!(end <= QUOTA, "the quota bounds a file");
        if self.keeps && !self.is_full {
            file.extend((offset..).zip(data.iter().copied()));
        }
        !self.is_full
    }

    fn end(&mut self, ended: Ended) {
        assert!(self.seen.insert(ended.id), "a dump ends once");
        assert!(ended.data.list().len() <= RANGES_MAX);
        assert!(ended.data.end() <= QUOTA);
        assert!(ended.key.len() <= 64 << 10);
        if self.keeps {
            let stored = self.files.get(&ended.id).map_or(0, BTreeMap::len);
            assert_eq!(
                ended.data.total(),
                stored as u64,
                "what arrived is in the file"
            );
        }
        self.ended.push(ended);
    }
}

/// A server with small limits.
pub(crate) fn server() -> Server {
    Server::new(Limits {
        clients: NonZeroUsize::new(CLIENTS).expect("not zero"),
        silence: Duration::from_secs(60),
        total: Duration::from_secs(600),
    })
}

/// Processes the dumps that have ended.
pub(crate) fn process(server: &mut Server, world: &mut World) -> Vec<Ended> {
    let ended = std::mem::take(&mut world.ended);
    for dump in &ended {
        if dump.why == Why::Finished {
            let before = world.acks.len();
            server.synced(dump.id, world);
            assert_eq!(
                world.acks.len(),
                before + 1,
                "the last message is acknowledged"
            );
        }
        server.done(dump.id);
    }
    ended
}

/// Interprets `bytes` as packets and events, and checks the server after each.
///
/// A byte selects the event, the next ones its parameters; a packet's header is made so that most
/// packets are accepted.
pub(crate) fn packets(bytes: &[u8]) {
    let (mut server, mut world) = (server(), World::keeping());
    let mut now = Duration::ZERO;
    let mut bytes = bytes.iter().copied();
    let (mut seqno, mut sent) = (0_u32, BTreeSet::new());
    while let Some(event) = bytes.next() {
        let mut next = || bytes.next().unwrap_or(0);
        let port = 20024 + u16::from(event >> 5 & 3);
        let address = ([192, 0, 2, event >> 6], port).into();
        let peer = Peer { socket: 0, address };
        match event & 31 {
            0 => now += Duration::from_millis(1 << (next() & 15)),
            1 => world.is_full = !world.is_full,
            2 => server.tick(now, &mut world),
            3 => drop(process(&mut server, &mut world)),
            4 => {
                let packet: Vec<u8> = (0..next()).map(|_| next()).collect();
                server.packet(now, peer, &packet, &mut world);
            }
            kind => {
                let kind = u32::from(kind % 6);
                let offset = match next() {
                    near @ 0..=199 => u64::from(near) * 64,
                    far => u64::MAX >> (far & 63),
                };
                let data = vec![event; usize::from(next())];
                seqno = seqno.wrapping_add(1);
                let packet = livecore_tests::netdump::message(kind, seqno, offset, &data);
                let before = world.acks.len();
                server.packet(now, peer, &packet, &mut world);
                let acks = &world.acks[before..];
                sent.insert((peer.address, seqno));
                let were_sent = acks.iter().all(|(to, n)| sent.contains(&(to.address, *n)));
                assert!(acks.len() <= 64 && were_sent, "{acks:?}");
            }
        }
        check(&server, now);
        world.acks.clear();
    }
    server.stop(now, &mut world);
    process(&mut server, &mut world);
    assert_eq!(server.clients(), 0, "no slot is kept for ever");
}

/// Checks the bounds of the server.
pub(crate) fn check(server: &Server, now: Duration) {
    assert!(server.clients() <= CLIENTS);
    let latest = now + Duration::from_secs(60);
    assert!(
        server.deadline().is_none_or(|at| at <= latest),
        "every client has a time limit"
    );
}
