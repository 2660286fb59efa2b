//! Dumps of emulated machines are sound in every container and codec, with and without the kernel,
//! at every depth. The kernel of another machine contradicts them.

use crate::dumps::{CODECS, CONTAINERS, elf};
use livecore_kernel::verifier::ElfFacts;

use std::io;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress};
use livecore_defs::vm_page::LP64;
use livecore_kernel::{Kernel, VmPages};
use livecore_livedump::take::{PlanOptions, Taken, plan};
use livecore_minidump::convert::{Target, finish};
use livecore_minidump::{
    Container, Dump, KernelElf, KernelMemory, OpenOptions, PhysAddr, PhysMemory,
};
use livecore_synth::Machine;
use livecore_verify::render::{Format, Style};
use livecore_verify::{Depth, Finding, Group, KernelFacts, Options, Report, Severity, Verdict};

const MACHINES: [(&str, &str); 15] = [
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
    ("arm64-lpa2", machine_text!("arm64-lpa2")),
    ("arm64-lpa2-16k", machine_text!("arm64-lpa2-16k")),
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
                let options = Options::default()
                    .name(format!("{name}, {container:?}, {codec}, {}", depth.name()))
                    .depth(depth)
                    .kernel(kernel)
                    .threads(NonZeroUsize::new(2).unwrap());
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

/// A kernel copies the message buffer and the page bitmap to memory that it does not zero, and writes
/// whole pages.
#[test]
fn kernel_heap_after_the_sections_of_a_live_dump_is_normal() {
    let (machine, elf) = machine(machine_text!("running"));
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let mut bytes = written(&taken, Container::Raw, Codec::None);
    let layout = taken.plan.layout();
    let bitmap = layout.bitmap_offset()..layout.bitmap_offset() + layout.bitmap_len();
    let copied = taken.plan.bitmap().bits().div_ceil(64) * 8;
    assert!(copied < layout.bitmap_len());
    bytes[(bitmap.start + copied) as usize..bitmap.end as usize].fill(0xde);
    for strict in [false, true] {
        let options = Options::default().name("live").strict(strict);
        let report = livecore_verify::verify(Arc::new(bytes.clone()), &options, &NoProgress);
        assert_eq!(rendered(&report), "live: sound\n");
        assert!(report.outcomes["BM-BEYOND"].broken > 0);
        let liveness = report.liveness.unwrap();
        assert_eq!((liveness.live, liveness.score()), (Some(true), 100.0));
    }
}

#[test]
fn kernel_of_another_machine_contradicts_the_dump() {
    let (machine_a, elf) = machine(MACHINES[0].1);
    let (_, other) = machine(MACHINES[3].1);
    let taken = plan(machine_a.memory(), &elf, &PlanOptions::default()).unwrap();
    let bytes = Arc::new(written(&taken, Container::Sealed, Codec::Zstd));
    let facts = ElfFacts(&other);
    let options = Options::default().kernel(Some(&facts));
    let report = livecore_verify::verify(bytes, &options, &NoProgress);
    assert_eq!(report.verdict, Verdict::Broken, "{}", rendered(&report));
    assert!(report.count(Severity::Error) > 0);
}

/// A machine's memory, with zeros from the first address of `zeros` to its last.
struct Zeroed {
    memory: Arc<dyn PhysMemory>,
    zeros: Range<u64>,
}

impl PhysMemory for Zeroed {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.memory.ranges()
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        self.memory.read(at, buf)?;
        for (at, byte) in (at.0..).zip(buf) {
            if self.zeros.contains(&at) {
                *byte = 0;
            }
        }
        Ok(())
    }
}

/// The memory of `machine` as the dump of a kernel that copies only the first eighth of its bitmap
/// sees it.
fn with_an_eighth(machine: &Machine) -> Arc<dyn PhysMemory> {
    let truth = machine.truth();
    let memory = machine.memory();
    let va = truth.symbol("vm_page_dump").unwrap();
    let map = |m: &&livecore_synth::Mapping| (m.va.0..m.va.0 + m.len).contains(&va);
    let map = truth.mappings.iter().find(map).unwrap();
    let mut pointer = [0; 8];
    let at = PhysAddr(map.pa.0 + (va - map.va.0));
    memory.read(at, &mut pointer).unwrap();
    let bitmap = u64::from_le_bytes(pointer) - truth.dmap.start.0 + truth.dmap_phys.0;
    let len = truth.bits.div_ceil(64) * 8;
    let copied = (len / 8).next_multiple_of(8);
    let zeros = bitmap + copied..bitmap + len;
    Arc::new(Zeroed { memory, zeros })
}

#[test]
fn an_eighth_of_the_kernels_bitmap_is_reported_with_and_without_the_kernel() {
    for (name, text) in MACHINES {
        if !["small", "arm64", "arm64-16k", "riscv64", "la57"].contains(&name) {
            continue;
        }
        let (machine, elf) = machine(text);
        let facts = ElfFacts(&elf);
        let taken = plan(with_an_eighth(&machine), &elf, &PlanOptions::default()).unwrap();
        let bytes = Arc::new(written(&taken, Container::Saved, Codec::None));
        for (kernel, rule) in [
            (None, "BM-EIGHTH"),
            (Some(&facts as &dyn KernelFacts), "KRN-BITMAP"),
        ] {
            let options = Options::default().kernel(kernel);
            let report = livecore_verify::verify(bytes.clone(), &options, &NoProgress);
            let broken = report.outcomes.get(rule).is_some_and(|o| o.broken > 0);
            // The machine with pages of 16 KiB has too few pages outside of its kernel map.
            let shown = kernel.is_some() || name != "arm64-16k";
            assert_eq!(broken, shown, "{name} {rule}: {}", rendered(&report));
            if broken {
                assert_eq!(report.verdict, Verdict::Warnings);
            }
        }
    }
}

/// With a kernel file, a mapped page that is not in the dump is reported unless its `struct vm_page`
/// has PG_NODUMP.
#[test]
fn absent_pages_are_reported_unless_the_kernel_marked_them_nodump() {
    let (machine, elf) = machine(machine_text!("nodump"));
    let facts = ElfFacts(&elf);
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let mut bytes = written(&taken, Container::Saved, Codec::None);
    let absent = |bytes: &[u8], kernel| {
        let options = Options::default().kernel(kernel);
        let report = livecore_verify::verify(Arc::new(bytes.to_vec()), &options, &NoProgress);
        assert_eq!(report.verdict, Verdict::Sound, "{}", rendered(&report));
        let of_rule = |f: &&Finding| f.rule.id == "PT-PAGE-ABSENT";
        let found = report.findings.iter().find(of_rule);
        found.map(|finding| finding.found.clone())
    };
    let kernel = Some(&facts as &dyn KernelFacts);
    assert!(absent(&bytes, None).is_some());
    assert_eq!(absent(&bytes, kernel), None);

    // Clear the flag of a mapped page.
    let dump = Dump::from_source(Arc::new(bytes.clone()), &OpenOptions::default()).unwrap();
    let view = Kernel::new(&dump, &elf);
    let pages = VmPages::find(&view, LP64, 1_400_097, &|_| Vec::new()).unwrap();
    let mut mapped = Vec::new();
    let sink = &mut |mapping: livecore_minidump::mmu::Mapping| {
        mapped.push(mapping.pa);
        ControlFlow::Continue(())
    };
    dump.walk(sink).unwrap();
    let page = mapped
        .into_iter()
        .find(|pa| pages.is_nodump(&dump, *pa) == Some(true))
        .unwrap();
    let flags = dump.translate(pages.flags(page).unwrap()).unwrap();
    let at = dump.offset_of(flags).unwrap() as usize;
    bytes[at] &= !pages.nodump();
    let found = absent(&bytes, kernel).unwrap();
    assert_eq!(
        found,
        format!(
            "1 mapped page without PG_NODUMP not in the dump, the first at physical address {page}"
        )
    );
}
