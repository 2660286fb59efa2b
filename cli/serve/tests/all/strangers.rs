//! Random streams of packets.

use livecore_tests::random::Random;

use crate::laws::packets;
use std::time::{Duration, Instant};

/// Rounds of the default run.
const ROUNDS: u64 = 1500;

const PACKETS: [&str; 50] = [
    "?",
    "g",
    "p0",
    "p10",
    "m0,8",
    "mfffff80000000000,100",
    "mffffffff80200000,1ffff",
    "xffffffff80200000,40",
    "m0,ffffffffffffffff",
    "Hg0",
    "Hc-1",
    "T186a0",
    "D",
    "k",
    "c",
    "s",
    "vCont?",
    "vCont;c",
    "vKill;1",
    "qC",
    "qSupported:xmlRegisters=i386,arm,mips,arc",
    "QStartNoAckMode",
    "QThreadSuffixSupported",
    "QEnableErrorStrings",
    "qfThreadInfo",
    "qsThreadInfo",
    "qThreadExtraInfo,186a0",
    "qThreadStopInfo186a0",
    "jThreadsInfo",
    "qMemoryRegionInfo:fffff80000000000",
    "qMemoryRegionInfo:0",
    "Qqemu.PhyMemMode:1",
    "qqemu.PhyMemMode",
    "qXfer:features:read:target.xml:0,ffff",
    "qXfer:memory-map:read::0,fff",
    "qXfer:threads:read::10,100",
    "qXfer:libraries:read::0,1000",
    "qXfer:exec-file:read::0,1000",
    "vFile:open:2f6b,0,0",
    "vFile:pread:0,100,0",
    "vFile:fstat:0",
    "vFile:close:0",
    "qHostInfo",
    "qProcessInfo",
    "qRegisterInfo0",
    "qOffsets",
    "qRcmd,68656c70",
    "qRcmd,6274",
    "qRcmd,76746f7020687a",
    "qRcmd,70732020",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap())
}

fn stream(numbers: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=numbers.index(6) {
        let mut body = PACKETS[numbers.index(PACKETS.len())].as_bytes().to_vec();
        for _ in 0..numbers.index(4).saturating_sub(1) {
            let at = numbers.index(body.len() + 1);
            let byte = b"0123456789abcdef,;:-#$}\x00\xff"[numbers.index(25)];
            match numbers.index(4) {
                0 => body.truncate(at),
                1 if at < body.len() => body[at] = byte,
                2 => body.extend(PACKETS[numbers.index(PACKETS.len())].bytes()),
                _ => body.insert(at, byte),
            }
        }
        let mut framed = Vec::new();
        livecore_serve::frame(&body, &mut framed);
        match numbers.index(12) {
            0 => framed.truncate(numbers.index(framed.len())),
            1 => framed.extend(b"---+\x03"),
            2 => {
                let at = numbers.index(framed.len());
                framed[at] ^= 1 << numbers.index(8);
            }
            _ => {}
        }
        bytes.extend(framed);
    }
    bytes
}

/// Runs a fixed number of rounds. `LIVECORE_FUZZ_SECONDS` sets a duration instead,
/// `LIVECORE_FUZZ_SEED` another seed.
#[test]
fn random_streams_of_packets_get_valid_answers() {
    let seed = number("LIVECORE_FUZZ_SEED").unwrap_or(0x5eed) | 1;
    let seconds = number("LIVECORE_FUZZ_SECONDS").map(Duration::from_secs);
    let mut numbers = Random::new(seed);
    let start = Instant::now();
    for round in 0.. {
        match seconds {
            Some(seconds) if start.elapsed() >= seconds => break,
            None if round >= ROUNDS => break,
            _ => {}
        }
        let bytes = stream(&mut numbers);
        let result = std::panic::catch_unwind(|| packets(&bytes));
        assert!(
            result.is_ok(),
            "seed {seed:#x}, round {round}: {}",
            bytes.escape_ascii()
        );
    }
}
