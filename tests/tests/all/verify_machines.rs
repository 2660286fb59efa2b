//! Dumps of emulated machines are sound in every container and codec, with and without the kernel,
//! at every depth. The kernel of another machine contradicts them.

use crate::dumps::{CODECS, CONTAINERS, elf};
use crate::kernel_facts::ElfFacts;

use std::num::NonZeroUsize;
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress};
use livecore_livedump::take::{PlanOptions, Taken, plan};
use livecore_minidump::convert::{Target, finish};
use livecore_minidump::{Container, KernelElf};
use livecore_synth::Machine;
use livecore_verify::render::{Format, Style};
use livecore_verify::{Depth, Group, KernelFacts, Options, Report, Severity, Verdict};

const MACHINES: [(&str, &str); 13] = [
    ("tiny", machine_text!("tiny")),
    ("small", machine_text!("small")),
    ("nodump", machine_text!("nodump")),
    ("old-12.1", machine_text!("old-12.1")),
    ("relocated", machine_text!("relocated")),
    ("running", machine_text!("running")),
    ("arm64", machine_text!("arm64")),
    ("arm64-16k", machine_text!("arm64-16k")),
    ("riscv64", machine_text!("riscv64")),
    ("riscv64-sv48", machine_text!("riscv64-sv48")),
    ("la57", machine_text!("la57")),
    ("i386", machine_text!("i386")),
    ("i386-pae", machine_text!("i386-pae")),
];

fn machine(text: &str) -> (Machine, KernelElf) {
    let machine = Machine::parse(text).unwrap();
    let elf = elf(machine.kernel());
    (machine, elf)
}

fn written(taken: &Taken, container: Container, codec: Codec) -> Vec<u8> {
    let encoding = Encoding::new(codec).threads(NonZeroUsize::new(2).unwrap());
    let target = Target {
        container,
        encoding,
    };
    let mut bytes = Vec::new();
    finish(
        &taken.payload(),
        taken.header(),
        &target,
        &mut bytes,
        &NoProgress,
    )
    .unwrap();
    bytes
}

fn rendered(report: &Report) -> String {
    let mut text = Vec::new();
    let reports = std::slice::from_ref(report);
    livecore_verify::render::write(reports, Format::Text, Style::default(), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn dumps_of_machines_are_sound_in_every_form() {
    for (name, text) in MACHINES {
        let (machine, elf) = machine(text);
        let facts = ElfFacts(&elf);
        let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
        // Containers and codecs do not depend on the architecture: test all of them on amd64 only.
        let amd64 = taken.machine.arch.name == "amd64";
        let containers = CONTAINERS.into_iter();
        let containers = containers.filter(|c| amd64 || *c == Container::Sealed);
        for (container, codec) in containers.flat_map(|c| CODECS.map(|codec| (c, codec))) {
            let bytes = Arc::new(written(&taken, container, codec));
            // i386 machines have no processes, and empty lists are an error of a kernel.
            let deepest = match machine.truth().threads.is_empty() {
                true => Depth::Default,
                false => Depth::Deep,
            };
            for (depth, kernel) in [
                (Depth::Quick, None),
                (Depth::Default, None),
                (deepest, Some(&facts as &dyn KernelFacts)),
            ] {
                let options = Options {
                    name: format!("{name}, {container:?}, {codec}, {}", depth.name()),
                    depth,
                    kernel,
                    threads: NonZeroUsize::new(2).unwrap(),
                    ..Options::default()
                };
                let report = livecore_verify::verify(bytes.clone(), &options, &NoProgress);
                assert_eq!(report.verdict, Verdict::Sound, "{}", rendered(&report));
                let torn: Vec<_> = report
                    .findings
                    .iter()
                    .filter(|f| f.rule.group == Group::Liveness)
                    .collect();
                assert!(torn.is_empty(), "{}", rendered(&report));
                let applied = report.outcomes.len();
                assert!(applied >= 15, "{applied} rules applied to {}", report.name);
            }
        }
    }
}

#[test]
fn kernel_of_another_machine_contradicts_the_dump() {
    let (machine_a, elf) = machine(MACHINES[0].1);
    let (_, other) = machine(MACHINES[3].1);
    let taken = plan(machine_a.memory(), &elf, &PlanOptions::default()).unwrap();
    let bytes = Arc::new(written(&taken, Container::Sealed, Codec::Zstd));
    let options = Options {
        kernel: Some(&ElfFacts(&other)),
        ..Options::default()
    };
    let report = livecore_verify::verify(bytes, &options, &NoProgress);
    assert_eq!(report.verdict, Verdict::Broken, "{}", rendered(&report));
    assert!(report.count(Severity::Error) > 0);
}
