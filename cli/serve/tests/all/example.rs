//! The example program, run on a dump and its kernel.

#[path = "../../examples/packets.rs"]
#[expect(dead_code, reason = "its main is not run here")]
mod packets;

use livecore_compress::ReadAt;
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::KernelElf;
use livecore_synth::Machine;

/// A packet with its checksum, computed here.
fn packet(body: &str) -> String {
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("${body}#{sum:02x}")
}

#[test]
fn example_answers_packets_about_a_dump() {
    let text = "seed = 7\n[memory]\nsize = \"16 MiB\"\n[state]\npanic = \"fuzz\"\n";
    let machine = Machine::parse(text).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let payload = plan(machine.memory(), &elf, &PlanOptions::default())
        .unwrap()
        .into_payload();
    let mut bytes = vec![0; usize::try_from(payload.size().unwrap()).unwrap()];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (dump, kernel) = (dir.path().join("vmcore.0"), dir.path().join("kernel"));
    std::fs::write(&dump, bytes).unwrap();
    std::fs::write(&kernel, machine.kernel()).unwrap();

    let version = &machine.truth().version.as_bytes()[..16];
    let at = machine.truth().symbol("version").unwrap();
    let input = packet(&format!("m{at:x},10")) + &packet("D");
    let mut output = Vec::new();
    packets::serve(&dump, &kernel, &mut input.as_bytes(), &mut output).unwrap();

    let hex: String = version.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!("+{}+{}", packet(&hex), packet("OK"));
    assert_eq!(String::from_utf8(output).unwrap(), expected);
}
