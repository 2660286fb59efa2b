//! The state machine of the server of netdump(4), with clients of its own and hostile packets.

mod laws;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use livecore_livedump::netdump::{Ended, Limits, Peer, RANGES_MAX, Refusal, Server, Why};
use livecore_tests::netdump::{Client, Dump, FINISHED, HERALD, KDH, KEY, Order, VMCORE, message};
use livecore_tests::random::Random;

use laws::{CLIENTS, QUOTA, World, check, process, server};

/// The number of packets of the long tests.
fn packets() -> u64 {
    let given = std::env::var("LIVECORE_NETDUMP_PACKETS").ok();
    given.map_or(1000, |n| n.parse().expect("a number"))
}

/// Prints a line on standard error.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The only range of a list.
fn only(list: &[Range<u64>]) -> Range<u64> {
    let [range] = list else {
        panic!("not one range: {list:?}");
    };
    range.clone()
}

fn peer(host: u8, port: u16) -> Peer {
    let address = ([192, 0, 2, host], port).into();
    Peer { socket: 0, address }
}

/// A dump with different bytes everywhere.
fn dump(len: usize, random: &mut Random) -> Dump {
    let mut data: Vec<u8> = (0..len.div_ceil(8))
        .flat_map(|_| random.next().to_ne_bytes())
        .collect();
    data.truncate(len);
    data.resize(len.next_multiple_of(4096), 0);
    Dump {
        data,
        len,
        header: (0..512).map(|_| random.next() as u8).collect(),
        key: (0..4096).map(|_| random.next() as u8).collect(),
    }
}

/// Sends the packets of `clients` through a network that loses, repeats and reorders them, with hostile
/// packets between them. Returns what ended, and the number of packets.
fn exchange(
    clients: &mut [(Peer, Client)],
    world: &mut World,
    random: &mut Random,
    hostile: bool,
) -> (Vec<Ended>, u64) {
    let mut server = server();
    let mut now = Duration::ZERO;
    let (mut ended, mut sent) = (Vec::new(), 0);
    let mut rounds = 0;
    while clients.iter().any(|(_, client)| !client.is_done()) {
        rounds += 1;
        assert!(rounds < 100_000, "every client comes to its end");
        let mut network: Vec<(Peer, Vec<u8>)> = Vec::new();
        for (peer, client) in clients.iter() {
            for packet in client.outgoing() {
                for _ in 0..1 + u64::from(random.one_in(10)) {
                    network.push((*peer, packet.clone()));
                }
            }
        }
        if hostile {
            for _ in 0..8 {
                network.push(hostile_packet(random));
            }
        }
        for at in (1..network.len()).rev() {
            if random.one_in(4) {
                network.swap(at, random.index(at + 1));
            }
        }
        for (peer, packet) in network {
            sent += 1;
            if !random.one_in(20) {
                server.packet(now, peer, &packet, world);
                check(&server, now);
            }
        }
        now += Duration::from_millis(500);
        server.tick(now, world);
        ended.extend(process(&mut server, world));
        for (peer, seqno) in std::mem::take(&mut world.acks) {
            let client = clients.iter_mut().find(|(at, _)| *at == peer);
            if let Some((_, client)) = client.filter(|_| !random.one_in(20)) {
                client.answer(&seqno.to_be_bytes());
            }
        }
    }
    server.stop(now, world);
    ended.extend(process(&mut server, world));
    assert_eq!(server.clients(), 0);
    (ended, sent)
}

/// A packet of a host that is no client of the test: random bytes, or a message with extreme fields.
fn hostile_packet(random: &mut Random) -> (Peer, Vec<u8>) {
    // From one address, which can take half of the slots.
    let peer = peer(100, 20_024 + random.below(4) as u16);
    let len = random.pick(&[0, 1, 23, 24, 100, 1448, 9000]);
    if random.one_in(4) {
        return (peer, (0..len).map(|_| random.next() as u8).collect());
    }
    let offset = match random.below(3) {
        0 => u64::MAX - random.below(4096),
        1 => random.below(2 * QUOTA),
        _ => random.below(300) * 7919,
    };
    let kind = random.below(7) as u32;
    let mut packet = message(kind, random.next() as u32, offset, &vec![0xee; len]);
    if random.one_in(8) {
        packet.truncate(random.index(packet.len()));
    }
    (peer, packet)
}

/// Two clients at once, one in each order of messages: the files have every byte of their dumps.
#[test]
fn dumps_arrive_through_loss_repetition_and_any_order() {
    for seed in 0..20 {
        note(&format!("seed {seed}"));
        let mut random = Random::new(seed);
        let packet = random.pick(&[1100, 1448, 4096, 8948, 65_000]);
        let dumps = [0, 1].map(|_| {
            let len = 1 + random.index(300_000);
            dump(len, &mut random)
        });
        let orders = [Order::KeyFirst, Order::KeyLast];
        let mut clients: Vec<_> = (0..2)
            .map(|n| {
                let client = Client::new(&dumps[n], b"", packet, orders[n]).with_aliases();
                (peer(n as u8, 20024), client)
            })
            .collect();
        let mut world = World::keeping();
        let (ended, _) = exchange(&mut clients, &mut world, &mut random, true);
        for (n, dump) in dumps.iter().enumerate() {
            let of = |ended: &&Ended| ended.peer == peer(n as u8, 20024);
            let found: Vec<_> = ended.iter().filter(of).collect();
            assert_eq!(found.len(), 1);
            let found = found[0];
            assert_eq!(found.why, Why::Finished);
            assert_eq!(only(found.data.list()), 0..dump.data.len() as u64);
            assert!(world.file(found.id) == dump.data, "the bytes differ");
            assert_eq!(found.kdh.unwrap().as_slice(), dump.header);
            assert_eq!(found.key, dump.key);
        }
    }
}

/// `LIVECORE_NETDUMP_PACKETS=1000000 cargo test …` sends a million. The laws are checked after each; the
/// state of the server stays within its bounds.
#[test]
fn hostile_and_lossy_traffic_stays_within_the_bounds() {
    let (mut sent, mut seed) = (0, 0);
    while sent < packets() {
        note(&format!("seed {seed}"));
        let mut random = Random::new(seed);
        let dump = dump(1 + random.index(QUOTA as usize / 2), &mut random);
        let packet = random.pick(&[1448, 4096, 8948]);
        let client = Client::new(&dump, b"/x\0", packet, Order::KeyFirst).with_aliases();
        let mut clients = vec![(peer(1, 20024), client)];
        let mut world = World::default();
        let (ended, more) = exchange(&mut clients, &mut world, &mut random, true);
        let found = ended
            .iter()
            .find(|ended| ended.peer == peer(1, 20024))
            .unwrap();
        assert!(found.data.covers(&(0..dump.data.len() as u64)));
        let noise: Vec<u8> = (0..4000).map(|_| random.next() as u8).collect();
        laws::packets(&noise);
        sent += more;
        seed += 1;
    }
    note(&format!("{sent} packets"));
}

/// Sends `dump` with messages of `size` bytes. The kernel takes the lost message at `lost` for
/// acknowledged with another one.
fn with_a_lost_message(dump: &Dump, size: usize, lost: u64) -> Ended {
    let mut client = Client::new(dump, b"", size, Order::KeyFirst).with_aliases();
    let (mut server, mut world) = (server(), World::default());
    let (now, me) = (Duration::ZERO, peer(1, 20024));
    let mut is_lost = false;
    for _ in 0..1000 {
        for packet in client.outgoing() {
            let offset = u64::from_be_bytes(packet[8..16].try_into().unwrap());
            if packet[3] == VMCORE as u8 && offset == lost && !is_lost {
                is_lost = true;
            } else {
                server.packet(now, me, &packet, &mut world);
            }
        }
        let mut ended = process(&mut server, &mut world);
        for (_, seqno) in std::mem::take(&mut world.acks) {
            client.answer(&seqno.to_be_bytes());
        }
        if let Some(ended) = ended.pop() {
            assert_eq!(ended.why, Why::Finished);
            return ended;
        }
    }
    panic!("the dump has not ended");
}

/// The server withholds the acknowledgement that would count for the lost message too.
#[test]
fn late_message_that_is_lost_is_repeated() {
    let dump = dump(65536, &mut Random::new(1));
    for number in [32, 40, 44, 45] {
        let ended = with_a_lost_message(&dump, 1448, number * 1448);
        assert_eq!(only(ended.data.list()), 0..65536, "message {number}");
    }
}

/// Batches of messages of 1024 bytes have no end that the server can recognize.
#[test]
fn gap_of_a_message_that_the_kernel_does_not_repeat_is_noticed() {
    let dump = dump(65536, &mut Random::new(1));
    let ended = with_a_lost_message(&dump, 1024, 40 * 1024);
    let missing = ended.data.missing(65536);
    assert_eq!(only(&missing), 40 * 1024..41 * 1024);
}

/// Sends one message and returns whether it was acknowledged.
fn sends(server: &mut Server, world: &mut World, at: u64, from: Peer, packet: &[u8]) -> bool {
    server.packet(Duration::from_secs(at), from, packet, world);
    !std::mem::take(&mut world.acks).is_empty()
}

#[test]
fn herald_after_data_is_a_new_dump_unless_it_is_a_late_duplicate() {
    let (mut server, mut world, me) = (server(), World::default(), peer(1, 20024));
    let herald = message(HERALD, 1, 0, b"");
    assert!(sends(&mut server, &mut world, 0, me, &herald));
    assert!(sends(&mut server, &mut world, 0, me, &herald), "repeated");
    assert!(sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(VMCORE, 2, 0, b"data")
    ));
    assert!(
        !sends(&mut server, &mut world, 1, me, &herald),
        "late duplicate"
    );
    assert!(world.ended.is_empty());
    assert!(
        sends(&mut server, &mut world, 20, me, &herald),
        "a new dump"
    );
    assert_eq!(world.ended[0].why, Why::Restarted);
    assert_eq!(only(world.ended[0].data.list()), 0..4);
}

#[test]
fn last_message_is_acknowledged_when_the_data_is_on_the_disk() {
    let (mut server, mut world, me) = (server(), World::default(), peer(1, 20024));
    let finished = message(FINISHED, 3, 0, b"");
    assert!(sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(HERALD, 1, 0, b"")
    ));
    assert!(sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(VMCORE, 2, 0, b"data")
    ));
    assert!(!sends(&mut server, &mut world, 0, me, &finished));
    assert!(
        !sends(&mut server, &mut world, 1, me, &finished),
        "not synced yet"
    );
    let id = world.ended[0].id;
    server.synced(id, &mut world);
    assert_eq!(std::mem::take(&mut world.acks), [(me, 3)]);
    assert!(
        sends(&mut server, &mut world, 2, me, &finished),
        "the answer was lost"
    );
    server.done(id);
    assert!(
        sends(&mut server, &mut world, 3, me, &finished),
        "after the slot is free"
    );
}

#[test]
fn slots_are_freed_and_no_address_takes_more_than_half_of_them() {
    let (mut server, mut world) = (server(), World::default());
    let herald = message(HERALD, 1, 0, b"");
    // Clients with data.
    for port in 0..3 {
        let from = peer(1, 20024 + port);
        let is_first = sends(&mut server, &mut world, 0, from, &herald);
        assert_eq!(is_first, port < 2, "half of {CLIENTS}");
        sends(
            &mut server,
            &mut world,
            0,
            from,
            &message(VMCORE, 2, 0, b"x"),
        );
    }
    for host in 2..4 {
        assert!(sends(&mut server, &mut world, 1, peer(host, 1), &herald));
    }
    // Full: a client without data gives way after a while, one with data does not.
    assert!(!sends(&mut server, &mut world, 3, peer(5, 1), &herald));
    assert!(sends(&mut server, &mut world, 4, peer(5, 1), &herald));
    assert_eq!(server.clients(), CLIENTS);
    assert_eq!(server.counters().empty, 1);
    // Heralds alone are forgotten after a while, silent dumps later, all without a message.
    server.tick(Duration::from_secs(40), &mut world);
    assert_eq!(server.clients(), 2);
    server.tick(Duration::from_secs(60), &mut world);
    assert_eq!(world.ended.len(), 2);
    assert!(world.ended.iter().all(|ended| ended.why == Why::Silent));
    process(&mut server, &mut world);
    assert_eq!(server.clients(), 0);
}

#[test]
fn client_that_sends_now_and_then_is_ended_by_the_time_limit() {
    let (mut server, mut world, me) = (server(), World::default(), peer(1, 20024));
    sends(&mut server, &mut world, 0, me, &message(HERALD, 1, 0, b""));
    for n in 0..40 {
        let packet = message(VMCORE, n + 2, u64::from(n), b"x");
        sends(&mut server, &mut world, u64::from(n) * 20, me, &packet);
        server.tick(Duration::from_secs(u64::from(n) * 20), &mut world);
    }
    assert_eq!(world.ended[0].why, Why::TooLong);
    assert_eq!(world.ended[0].took, Duration::from_secs(600));
}

#[test]
fn refused_messages_are_not_acknowledged_and_end_the_dump_after_a_while() {
    for (refusal, packet) in [
        (Refusal::Quota, message(VMCORE, 9, QUOTA, b"x")),
        (Refusal::Quota, message(VMCORE, 9, u64::MAX - 1, b"x")),
        (Refusal::Write, message(VMCORE, 9, 100, b"x")),
        (Refusal::Scattered, message(VMCORE, 9, QUOTA / 2 + 1, b"x")),
    ] {
        let (mut server, mut world, me) = (server(), World::default(), peer(1, 20024));
        sends(&mut server, &mut world, 0, me, &message(HERALD, 1, 0, b""));
        assert!(sends(
            &mut server,
            &mut world,
            0,
            me,
            &message(VMCORE, 2, 0, b"x")
        ));
        world.is_full = refusal == Refusal::Write;
        if refusal == Refusal::Scattered {
            for n in 1..RANGES_MAX as u64 {
                assert!(sends(
                    &mut server,
                    &mut world,
                    0,
                    me,
                    &message(VMCORE, 3, n * 2, b"x")
                ));
            }
        }
        assert!(!sends(&mut server, &mut world, 1, me, &packet));
        server.tick(Duration::from_secs(20), &mut world);
        assert!(world.ended.is_empty());
        server.tick(Duration::from_secs(31), &mut world);
        assert_eq!(world.ended[0].why, Why::Refused(refusal));
    }
}

#[test]
fn disk_that_has_space_again_continues_the_dump() {
    let (mut server, mut world, me) = (server(), World::default(), peer(1, 20024));
    sends(&mut server, &mut world, 0, me, &message(HERALD, 1, 0, b""));
    assert!(sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(VMCORE, 2, 0, b"x")
    ));
    world.is_full = true;
    assert!(!sends(
        &mut server,
        &mut world,
        1,
        me,
        &message(VMCORE, 3, 1, b"x")
    ));
    world.is_full = false;
    assert!(sends(
        &mut server,
        &mut world,
        2,
        me,
        &message(VMCORE, 3, 1, b"x")
    ));
    server.tick(Duration::from_secs(40), &mut world);
    assert!(world.ended.is_empty());
}

#[test]
fn headers_and_keys_of_wrong_sizes_and_unknown_clients_are_ignored() {
    let limits = Limits {
        clients: NonZeroUsize::MIN,
        ..Limits::default()
    };
    let (mut server, mut world, me) = (Server::new(limits), World::default(), peer(1, 20024));
    assert!(!sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(VMCORE, 1, 0, b"x")
    ));
    assert!(!sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(FINISHED, 1, 0, b"")
    ));
    assert!(!sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(HERALD, 1, 0, &[b'a'; 1025])
    ));
    assert!(sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(HERALD, 1, 0, b"")
    ));
    for packet in [
        message(KDH, 2, 0, &[1; 513]),
        message(KDH, 2, 512, &[1]),
        message(KEY, 2, 65_536, &[1]),
        message(KEY, 2, u64::MAX, &[1]),
        message(0, 2, 0, b""),
        message(6, 2, 0, b""),
        message(KDH, 2, 0, &[1; 512])[..500].to_vec(),
    ] {
        assert!(!sends(&mut server, &mut world, 0, me, &packet));
    }
    assert!(sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(KDH, 2, 0, &[1; 256])
    ));
    sends(
        &mut server,
        &mut world,
        0,
        me,
        &message(FINISHED, 3, 0, b""),
    );
    assert_eq!(world.ended[0].kdh, None, "half a header is none");
}
