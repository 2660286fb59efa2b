//! Packets from strangers: a target for fuzzers.

use std::sync::{Arc, OnceLock};

use livecore_kernel::Pair;
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::{AnyDump, KernelElf, OpenOptions};
use livecore_synth::{Description, build};

use super::packet::PACKET_MAX;
use super::session::{Flow, Session};
use super::target::Served;
use crate::failure::Failure;

/// The smallest machine with a crash, threads and modules.
const MACHINE: &str = "seed = 7\n[memory]\nsize = \"16 MiB\"\n[state]\npanic = \"fuzz\"\n";

/// A dump of an emulated machine, in memory, with its kernel.
pub(crate) fn machine() -> Result<Served, Failure> {
    let could_not = |e: &dyn std::fmt::Display| Failure::could_not(e);
    let description = Description::parse(MACHINE).map_err(|e| could_not(&e))?;
    let machine = build(&description).map_err(|e| could_not(&e))?;
    let elf = KernelElf::from_bytes(machine.kernel().to_vec())?;
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).map_err(|e| could_not(&e))?;
    let dump = AnyDump::from_source(Arc::new(taken.payload()), &OpenOptions::default())?;
    let pair = Pair::new(&dump, "kernel", elf).map_err(|e| could_not(&e))?;
    Served::new(pair, "machine".as_ref(), &[])
}

/// Feeds `data` to a session over an emulated machine. Public for fuzzers.
///
/// # Panics
///
/// If a law does not hold: what goes out is packets with right sums, none longer than
/// [`PACKET_MAX`] but for its escapes, and does not depend on the pieces that the bytes came in.
pub fn packets(data: &[u8]) {
    static MACHINE: OnceLock<Served> = OnceLock::new();
    let served = MACHINE.get_or_init(|| match machine() {
        Ok(served) => served,
        Err(error) => panic!("the machine of the fuzz target: {error}"),
    });
    let whole = answers(served, &[data]);
    check(&whole.0);
    let pieces: Vec<&[u8]> = data.chunks(7).collect();
    assert!(
        answers(served, &pieces) == whole,
        "the answer depends on how the bytes were cut"
    );
}

fn answers(served: &Served, pieces: &[&[u8]]) -> (Vec<u8>, Flow) {
    let mut session = Session::new(served);
    let mut out = Vec::new();
    for piece in pieces {
        // Writing into memory does not fail.
        if let Ok(Flow::Closed) = session.receive(piece, &mut out) {
            return (out, Flow::Closed);
        }
    }
    (out, Flow::Go)
}

/// Every byte that goes out is a sign or of a packet, and every packet has its sum.
fn check(mut out: &[u8]) {
    while let Some((first, rest)) = out.split_first() {
        out = rest;
        if matches!(first, b'+' | b'-') {
            continue;
        }
        assert_eq!(*first, b'$', "a byte outside of packets");
        let end = out.iter().position(|b| *b == b'#');
        let Some(end) = end else {
            panic!("a packet without its end");
        };
        let (body, tail) = out.split_at(end);
        let sum = body.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        assert!(
            tail.starts_with(format!("#{sum:02x}").as_bytes()),
            "a wrong sum"
        );
        let len = body.iter().filter(|b| **b != b'}').count();
        assert!(len <= PACKET_MAX, "a packet of {len} bytes");
        out = &tail[3..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Rounds of the fixed sample.
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

    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
        }
    }

    fn number(name: &str) -> Option<u64> {
        std::env::var(name).ok().map(|v| v.parse().unwrap())
    }

    fn stream(numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=numbers.below(6) {
            let mut body = PACKETS[numbers.below(PACKETS.len())].as_bytes().to_vec();
            for _ in 0..numbers.below(4).saturating_sub(1) {
                let at = numbers.below(body.len() + 1);
                let byte = b"0123456789abcdef,;:-#$}\x00\xff"[numbers.below(25)];
                match numbers.below(4) {
                    0 => body.truncate(at),
                    1 if at < body.len() => body[at] = byte,
                    2 => body.extend(PACKETS[numbers.below(PACKETS.len())].bytes()),
                    _ => body.insert(at, byte),
                }
            }
            let mut framed = Vec::new();
            super::super::packet::frame(&body, &mut framed);
            match numbers.below(12) {
                0 => framed.truncate(numbers.below(framed.len())),
                1 => framed.extend(b"---+\x03"),
                2 => {
                    let at = numbers.below(framed.len());
                    framed[at] ^= 1 << numbers.below(8);
                }
                _ => {}
            }
            bytes.extend(framed);
        }
        bytes
    }

    /// A small fixed sample; `LIVECORE_FUZZ_SECONDS` makes it go on for so long,
    /// `LIVECORE_FUZZ_SEED` begins elsewhere.
    #[test]
    fn no_stream_of_packets_breaks_a_law() {
        let seed = number("LIVECORE_FUZZ_SEED").unwrap_or(0x5eed) | 1;
        let seconds = number("LIVECORE_FUZZ_SECONDS").map(Duration::from_secs);
        let mut numbers = Numbers(seed);
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
}
