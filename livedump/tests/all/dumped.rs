//! A full dump at its kernel's addresses: the kernel map and the direct map equal those of the
//! minidump of the same machine.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_defs::elf::{CLASS32, CLASS64, ELFOSABI_STANDALONE, PF_R, PT_LOAD};
use livecore_kernel::locate::{DumpedMachine, LocateError};
use livecore_livedump::take::{PlanOptions, TakeError, plan, plan_machine};
use livecore_minidump::PhysMemory;
use livecore_minidump::elf::headers::Segment;
use livecore_minidump::elf::write::CoreHead;
use livecore_minidump::{
    AnyDump, ByteOrder, Dump, DumpMemory, FullDump, KernelElf, KernelMemory, OpenOptions, PhysAddr,
    VirtAddr,
};
use livecore_synth::Machine;

const MACHINES: [&str; 5] = [
    include_str!("../../../testdata/machines/tiny.toml"),
    include_str!("../../../testdata/machines/relocated.toml"),
    include_str!("../../../testdata/machines/arm64.toml"),
    include_str!("../../../testdata/machines/riscv64.toml"),
    include_str!("../../../testdata/machines/i386.toml"),
];

/// All of a machine's memory as a kernel's full dump.
fn full(memory: &dyn PhysMemory, machine: livecore_minidump::ElfMachine) -> Arc<FullDump> {
    full_without(memory, machine, 0)
}

/// The same without the last `cut` bytes of the file.
fn full_without(
    memory: &dyn PhysMemory,
    machine: livecore_minidump::ElfMachine,
    cut: usize,
) -> Arc<FullDump> {
    let head = CoreHead {
        class: if machine.0 == 3 { &CLASS32 } else { &CLASS64 },
        order: ByteOrder::Little,
        osabi: ELFOSABI_STANDALONE,
        machine,
        flags: 0,
        version: 0,
    };
    let ranges = memory.ranges();
    let start = head.len(ranges.len() as u64).next_multiple_of(4096);
    let mut offset = start;
    let segments: Vec<Segment> = ranges
        .iter()
        .map(|range| {
            let len = range.end.0 - range.start.0;
            offset += len;
            Segment {
                kind: PT_LOAD,
                flags: PF_R,
                offset: offset - len,
                vaddr: range.start.0,
                paddr: range.start.0,
                filesz: len,
                memsz: len,
                align: 4096,
            }
        })
        .collect();
    let mut bytes = head.encode(segments.into_iter());
    bytes.resize(start as usize, 0);
    for range in ranges {
        let at = bytes.len();
        bytes.resize(at + (range.end.0 - range.start.0) as usize, 0);
        memory.read(range.start, &mut bytes[at..]).unwrap();
    }
    bytes.truncate(bytes.len() - cut);
    match AnyDump::from_source(Arc::new(bytes), &OpenOptions::default()).unwrap() {
        AnyDump::Full(full) => full,
        AnyDump::Mini(_) => panic!("a minidump"),
    }
}

#[test]
fn truncated_full_dump_is_planned_without_the_missing_pages() {
    let mut all = 0;
    for text in MACHINES {
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let memory = machine.memory();
        let whole = plan(memory.clone(), &elf, &PlanOptions::default()).unwrap();
        let end = memory.ranges().last().unwrap().end.0;
        let avail = whole.plan.dump_avail();
        let lost = |cut: u64| {
            let lost = (end - cut..end).step_by(4096).filter(|pa| {
                let bit = avail.bit_of(PhysAddr(*pa));
                bit.is_some_and(|bit| whole.plan.bitmap().contains(bit))
            });
            lost.count() as u64
        };
        let cut = 0x8000;
        let full = full_without(&*memory, elf.machine(), cut as usize);
        let found = DumpedMachine::find(full, &elf).unwrap();
        let partial = plan_machine(found.into_machine(), &elf, &PlanOptions::default()).unwrap();
        assert_eq!(partial.missing, lost(cut), "{}", partial.machine.arch);
        all += partial.missing;
        let payload = partial.payload();
        let mut bytes = vec![0; payload.size().unwrap() as usize];
        payload.read_exact_at(&mut bytes, 0).unwrap();
    }
    assert!(all > 0);
}

/// All pages of the kernel map: physical address, writable, executable.
fn pages(memory: &dyn DumpMemory) -> BTreeMap<u64, (u64, bool, bool)> {
    let mut pages = BTreeMap::new();
    let end = memory.walk(&mut |mapping| {
        for skip in (0..mapping.len).step_by(memory.page_size() as usize) {
            let allowed = mapping.protection;
            let page = (mapping.pa.0 + skip, allowed.write, allowed.execute);
            pages.insert(mapping.va.0 + skip, page);
        }
        ControlFlow::Continue(())
    });
    assert!(!end.unwrap().stopped);
    pages
}

#[test]
fn kernel_map_of_a_full_dump_equals_the_minidumps() {
    for text in MACHINES {
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let memory = machine.memory();
        let taken = plan(memory.clone(), &elf, &PlanOptions::default()).unwrap();
        let mini = Dump::from_source(Arc::new(taken.payload()), &OpenOptions::default()).unwrap();
        let full = full(&*memory, elf.machine());
        let found = DumpedMachine::find(Arc::clone(&full), &elf).unwrap();
        let name = mini.header().arch;

        let (of_mini, of_full) = (pages(&mini), pages(&found));
        assert!(of_mini.len() > 100, "{name}");
        for (va, page) in &of_mini {
            let other = of_full.get(va);
            let same = match name.name {
                // The other minidumps have a block's permissions for its pages.
                "amd64" => other == Some(page),
                _ => other.map(|p| p.0) == Some(page.0),
            };
            assert!(same, "{name} {va:#x}: {page:x?}, {other:x?}");
            assert_eq!(found.translate(VirtAddr(*va)).unwrap().0, page.0, "{name}");
        }
        // Further pages of the full dump are after the end of the minidump's tables.
        let last = of_mini.keys().last().unwrap();
        let more = of_full
            .keys()
            .find(|va| *va < last && !of_mini.contains_key(va));
        assert_eq!(more, None, "{name}");

        let direct = DumpMemory::direct_map(&mini);
        assert_eq!(found.direct_map().is_some(), direct.is_some(), "{name}");
        for range in memory.ranges() {
            let at = range.start;
            let va = found.direct_map_of(at);
            assert_eq!(va, DumpMemory::direct_map_of(&mini, at), "{name} {at}");
            let run = found.run_at(at);
            assert!(run.present && run.end >= Some(range.end), "{name}");
        }
        let end = memory.ranges().last().unwrap().end;
        assert_eq!(found.memory_end(), end);
        assert!(!found.run_at(found.memory_end()).present);
    }
}

/// libkvm needs only `kernbase` and `KPML4phys`. Other missing symbols are errors only of
/// operations that need them.
#[test]
fn kernel_of_a_full_dump_may_lack_version_dump_avail_and_msgbufp() {
    for text in MACHINES {
        let machine = Machine::parse(text).unwrap();
        let whole = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let mut bytes = machine.kernel().to_vec();
        for name in ["version", "dump_avail", "msgbufp"] {
            let name = format!("\0{name}\0").into_bytes();
            while let Some(at) = bytes.windows(name.len()).position(|w| w == name) {
                bytes[at + 1] = b'-';
            }
        }
        let elf = KernelElf::from_bytes(bytes).unwrap();
        let memory = machine.memory();
        let full = full(&*memory, elf.machine());
        let (lacking, complete) = (
            DumpedMachine::find(Arc::clone(&full), &elf).unwrap(),
            DumpedMachine::find(Arc::clone(&full), &whole).unwrap(),
        );
        let name = full.arch().name;
        assert_eq!(
            lacking.machine().located,
            complete.machine().located,
            "{name}"
        );
        assert!(pages(&lacking) == pages(&complete), "{name}");
        let kernel = livecore_kernel::Kernel::new(&lacking, &elf);
        assert_eq!(kernel.read_value::<i32>("hz").unwrap(), 1000, "{name}");
        assert_eq!(
            kernel.threads().unwrap().len(),
            machine.truth().threads.len()
        );
        let error = livecore_minidump::MessageBuffer::of_memory(&lacking, &elf)
            .err()
            .unwrap();
        let name = match error {
            livecore_minidump::Error::NoSymbol(name) => name,
            other => panic!("{other}"),
        };
        assert_eq!(name, "msgbufp");
        let error = plan(memory, &elf, &PlanOptions::default()).err().unwrap();
        let name = match error {
            TakeError::Locate(LocateError::NoSymbol { name }) => name,
            other => panic!("{other}"),
        };
        assert_eq!(name, "dump_avail");
    }
}
