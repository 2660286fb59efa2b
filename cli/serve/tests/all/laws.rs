//! Laws of every answer, whatever is sent: also the body of the fuzz target `packets`.

use std::sync::{Arc, OnceLock};

use livecore_kernel::Pair;
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::{AnyDump, KernelElf, OpenOptions};
use livecore_synth::Machine;

use livecore_serve::{Flow, PACKET_MAX, Served, Session};

/// The smallest machine with a crash, threads and modules.
const MACHINE: &str = "seed = 7\n[memory]\nsize = \"16 MiB\"\n[state]\npanic = \"fuzz\"\n";

/// A dump of an emulated machine, in memory, with its kernel.
fn machine() -> Served {
    let machine = Machine::parse(MACHINE).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let source = Arc::new(taken.payload());
    let dump = AnyDump::from_source(source, &OpenOptions::default()).unwrap();
    let pair = Pair::new(&dump, "kernel", elf).unwrap();
    Served::new(pair, "machine".as_ref(), &[]).unwrap()
}

/// Feeds `data` to a session over an emulated machine.
///
/// # Panics
///
/// If a law does not hold: what goes out is packets with right sums, none longer than
/// [`PACKET_MAX`] but for its escapes, and does not depend on the pieces that the bytes came in.
pub(crate) fn packets(data: &[u8]) {
    static MACHINE: OnceLock<Served> = OnceLock::new();
    let served = MACHINE.get_or_init(machine);
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
