//! Properties of all answers; also the body of the fuzz target `packets`.

use std::sync::{Arc, OnceLock};

use livecore_kernel::Pair;
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::{AnyDump, KernelElf, OpenOptions};
use livecore_synth::Machine;

use livecore_serve::{Flow, PACKET_MAX, Served, Session};

/// A small machine with a crash, threads and modules.
const MACHINE: &str = "seed = 7\n[memory]\nsize = \"16 MiB\"\n[state]\npanic = \"fuzz\"\n";

/// The dump of an emulated machine, in memory, with its kernel.
fn machine() -> Served {
    let machine = Machine::parse(MACHINE).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let source = Arc::new(taken.payload());
    let dump = AnyDump::from_source(source, &OpenOptions::default()).unwrap();
    let pair = Pair::new(&dump, "kernel", elf).unwrap();
    Served::new(pair, "machine", &[]).unwrap()
}

/// Passes `data` to a session and checks the output.
///
/// # Panics
///
/// The output is not a sequence of packets with correct sums and at most [`PACKET_MAX`] bytes
/// (before escaping), or depends on how the input is split.
pub(crate) fn packets(data: &[u8]) {
    static MACHINE: OnceLock<Served> = OnceLock::new();
    let served = MACHINE.get_or_init(machine);
    let whole = answers(served, &[data]);
    check(&whole.0);
    let pieces: Vec<&[u8]> = data.chunks(7).collect();
    assert!(
        answers(served, &pieces) == whole,
        "the answer depends on how the input is split"
    );
}

fn answers(served: &Served, pieces: &[&[u8]]) -> (Vec<u8>, Flow) {
    let mut session = Session::new(served);
    let mut out = Vec::new();
    for piece in pieces {
        // Writing to memory does not fail.
        if let Ok(Flow::Closed) = session.receive(piece, &mut out) {
            return (out, Flow::Closed);
        }
    }
    (out, Flow::Go)
}

/// Checks that the output consists of acknowledgments and packets with correct sums.
fn check(mut out: &[u8]) {
    while let Some((first, rest)) = out.split_first() {
        out = rest;
        if matches!(first, b'+' | b'-') {
            continue;
        }
        assert_eq!(*first, b'$', "byte outside of a packet");
        let end = out.iter().position(|b| *b == b'#');
        let Some(end) = end else {
            panic!("packet without end");
        };
        let (body, tail) = out.split_at(end);
        let sum = body.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        assert!(
            tail.starts_with(format!("#{sum:02x}").as_bytes()),
            "wrong sum"
        );
        let len = body.iter().filter(|b| **b != b'}').count();
        assert!(len <= PACKET_MAX, "packet of {len} bytes");
        out = &tail[3..];
    }
}
