//! A dump has exactly the pages of the machine.
//!
//! The machines come from `synth`, whose `Truth` records what the builder put where. The dump is
//! read with the reader for real dumps.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::common::patched::Patched;

use livecore_compress::ReadAt;
use livecore_kernel::locate::LocateError;
use livecore_livedump::take::{Note, PlanOptions, TakeError, Taken, plan};
use livecore_minidump::PhysMemory;
use livecore_minidump::mmu::Paging;
use livecore_minidump::{
    Dump, KernelElf, KernelMemory, MessageBuffer, OpenOptions, PhysAddr, VirtAddr,
};
use livecore_synth::{Machine, Truth, Why};

/// The page size of amd64.
pub(crate) const PAGE: u64 = 4096;

pub(crate) fn tiny() -> Machine {
    Machine::parse(include_str!("../../../testdata/machines/tiny.toml")).unwrap()
}

pub(crate) fn taken(machine: &Machine, version: Option<u32>) -> Taken {
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    plan(
        machine.memory(),
        &elf,
        &PlanOptions::default().version(version),
    )
    .unwrap()
}

pub(crate) fn dump(taken: &Taken) -> Dump {
    let options = OpenOptions::default();
    Dump::from_source(Arc::new(taken.payload()), &options).unwrap()
}

/// The physical pages of the dump according to the builder.
pub(crate) fn expected(truth: &Truth) -> BTreeMap<u64, Why> {
    let mut pages = BTreeMap::new();
    for run in &truth.dumped {
        for pa in (run.pa.0..run.pa.0 + run.len).step_by(truth.page_size as usize) {
            pages.insert(pa, run.why);
        }
    }
    pages
}

/// Checks one machine's dump page by page: physical, kernel map, direct map, holes.
fn check(machine: &Machine, taken: &Taken) {
    let truth = machine.truth();
    let page = truth.page_size;
    let memory = machine.memory();
    let dump = dump(taken);
    let pages = expected(truth);

    // The bitmap equals the builder's list.
    let mut bits = taken
        .plan
        .bitmap()
        .iter()
        .map(|bit| taken.plan.dump_avail().addr_of(bit).unwrap().0)
        .collect::<Vec<_>>();
    bits.sort_unstable();
    let wanted = pages.keys().copied().collect::<Vec<_>>();
    if bits != wanted {
        let extra = bits.iter().filter(|p| !pages.contains_key(p)).take(5);
        let lost = pages.iter().filter(|(p, _)| !bits.contains(p)).take(5);
        panic!(
            "{} pages, {} expected; extra {:x?}, lost {:x?}",
            bits.len(),
            wanted.len(),
            extra.collect::<Vec<_>>(),
            lost.collect::<Vec<_>>()
        );
    }

    // Every physical page of the machine: its bytes, or a hole.
    let mut expected_page = vec![0; page as usize];
    let mut found = vec![0; page as usize];
    let mut read = 0;
    for range in memory.ranges() {
        for pa in (range.start.0..range.end.0).step_by(page as usize) {
            let got = dump.read_phys(PhysAddr(pa), &mut found);
            if pages.contains_key(&pa) {
                got.unwrap();
                memory.read(PhysAddr(pa), &mut expected_page).unwrap();
                assert!(expected_page == found, "page {pa:#x}");
                read += 1;
            } else {
                assert!(got.is_err(), "page {pa:#x} must not be in the dump");
            }
        }
    }
    assert_eq!(read, pages.len());

    // All mappings of the kernel map and the direct map, leaf by leaf, and the addresses around
    // them.
    let mut mapped = 0;
    for mapping in truth.mappings.iter().chain(&truth.direct) {
        for offset in (0..mapping.len).step_by(page as usize) {
            let (va, pa) = (mapping.va.0 + offset, mapping.pa.0 + offset);
            if truth.dmap.contains(&VirtAddr(va)) && offset > 64 << 20 && !pages.contains_key(&pa) {
                // Most of a large machine's direct map is holes.
                continue;
            }
            let got = dump.read_virt(VirtAddr(va), &mut found);
            if pages.contains_key(&pa) {
                got.unwrap();
                memory.read(PhysAddr(pa), &mut expected_page).unwrap();
                assert!(expected_page == found, "address {va:#x}");
                mapped += 1;
            } else {
                assert!(got.is_err(), "address {va:#x} maps a missing page");
            }
        }
    }
    assert!(mapped > 100, "{mapped} pages were read by address");
    for range in unmapped(truth) {
        for va in [range.start, VirtAddr(range.end.0 - page)] {
            let got = dump.read_virt(va, &mut found);
            assert!(got.is_err(), "address {va:#x} must not be mapped");
        }
    }
}

/// The unmapped ranges of the kernel map.
fn unmapped(truth: &Truth) -> Vec<Range<VirtAddr>> {
    let mut gaps = Vec::new();
    let mut at = truth.vm_min_kernel_address;
    for mapping in &truth.mappings {
        if at < mapping.va {
            gaps.push(at..mapping.va);
        }
        at = at.max(mapping.va.saturating_add(mapping.len));
    }
    gaps
}

#[test]
fn dump_of_the_tiny_machine_has_its_pages() {
    let machine = tiny();
    let taken = taken(&machine, None);
    check(&machine, &taken);
    assert!(taken.notes.is_empty(), "{:?}", taken.notes);
}

#[test]
fn header_fields_match_the_machine() {
    let machine = tiny();
    let truth = machine.truth();
    let taken = taken(&machine, None);
    let header = taken.plan.header();
    assert_eq!(header.version, 3);
    assert_eq!(header.kernbase, truth.vm_min_kernel_address.0);
    assert_eq!(header.dmapbase, truth.dmap.start.0);
    assert_eq!(header.dmapend, truth.dmap.end.0);
    assert_eq!(u64::from(header.msgbufsize), truth.msgbuf.ring.len() as u64);
    // Complete GiB from the start of the kernel map to its end.
    let span = truth.kva_end.0 - truth.vm_min_kernel_address.0;
    assert_eq!(u64::from(header.pmapsize), span.div_ceil(1 << 30) * PAGE);
    assert_eq!(taken.plan.dump_avail().bits(), truth.bits);

    let kernel = taken.header();
    assert_eq!(kernel.architecture, b"amd64");
    assert_eq!(kernel.architectureversion, 2);
    assert_eq!(kernel.hostname, truth.hostname.as_bytes());
    assert_eq!(kernel.versionstring, truth.version.as_bytes());
    assert_eq!(
        Some(kernel.panicstring),
        truth.panic.clone().map(String::into_bytes)
    );
    assert_eq!(kernel.dumptime, truth.time_second);
    assert_eq!(kernel.blocksize, 4096);
    assert_eq!(kernel.compression, 0);
    assert_eq!(kernel.dumplength, taken.payload().size().unwrap());
    assert_eq!(kernel.dumpextent, kernel.dumplength);
}

#[test]
fn message_buffer_is_the_ring_followed_by_its_structure() {
    let machine = tiny();
    let truth = machine.truth();
    let taken = taken(&machine, None);
    let mut section = vec![0; taken.plan.layout().msgbuf_len() as usize];
    taken
        .payload()
        .read_exact_at(&mut section, taken.plan.layout().msgbuf_offset())
        .unwrap();
    let (ring, after) = section.split_at(truth.msgbuf.ring.len());
    assert!(ring == truth.msgbuf.ring);
    assert_eq!(after[8..12], 0x06_3062_u32.to_le_bytes());
    assert_eq!(after[16..20], truth.msgbuf.wseq.to_le_bytes());
}

#[test]
fn version_2_indexes_pages_by_number() {
    let machine = tiny();
    let taken = taken(&machine, Some(2));
    assert_eq!(taken.plan.header().version, 2);
    assert_eq!(taken.plan.header().dumpavailsize, 0);
    let top = machine.truth().dump_avail.last().unwrap().end;
    let bytes = (top.0 / PAGE).div_ceil(8).next_multiple_of(PAGE);
    assert_eq!(u64::from(taken.plan.header().bitmapsize), bytes);
    check(&machine, &taken);
}

#[test]
fn kernel_of_12_1_gets_version_2_by_default() {
    let text = include_str!("../../../testdata/machines/tiny.toml")
        .replace("release = \"14.0\"", "release = \"12.1\"");
    let machine = Machine::parse(&text).unwrap();
    let own = taken(&machine, None);
    assert_eq!(own.plan.header().version, 2);
    assert_eq!(own.plan.bitmap().bits(), machine.truth().bits);
    check(&machine, &own);
    let newer = taken(&machine, Some(3));
    assert_eq!(newer.plan.header().version, 3);
    check(&machine, &newer);
}

#[test]
fn kernel_of_15_has_a_smaller_struct_vm_page() {
    let text = include_str!("../../../testdata/machines/tiny.toml")
        .replace("release = \"14.0\"", "release = \"15.0\"");
    let machine = Machine::parse(&text).unwrap();
    assert!(!machine.truth().nodump.is_empty());
    let taken = taken(&machine, None);
    assert!(taken.notes.is_empty(), "{:?}", taken.notes);
    check(&machine, &taken);
}

#[test]
fn relocated_kernel_is_found() {
    let text = include_str!("../../../testdata/machines/tiny.toml")
        .replace("functions = 120", "functions = 120\nload = \"0x1000000\"");
    let machine = Machine::parse(&text).unwrap();
    assert_eq!(machine.truth().kernphys, PhysAddr(16 << 20));
    let taken = taken(&machine, None);
    assert_eq!(taken.machine.located.kernphys, PhysAddr(16 << 20));
    assert_eq!(taken.machine.located.root, machine.truth().root);
    check(&machine, &taken);
}

#[test]
fn nodump_pages_are_omitted_if_their_structures_are_readable() {
    let machine = tiny();
    let nodump = machine.truth().nodump.clone();
    assert!(!nodump.is_empty());
    let with = taken(&machine, None);
    for range in &nodump {
        let bit = with.plan.dump_avail().bit_of(range.start).unwrap();
        assert!(!with.plan.bitmap().contains(bit));
    }
    let text = include_str!("../../../testdata/machines/tiny.toml").replace(
        "vm_page_array_in_direct_map = true",
        "vm_page_array = false",
    );
    let machine = Machine::parse(&text).unwrap();
    let without = taken(&machine, None);
    assert_eq!(without.notes, [Note::NoVmPageArray]);
    check(&machine, &without);
}

#[test]
fn another_kernel_is_not_found() {
    let machine = tiny();
    let mut elf = machine.kernel().to_vec();
    // Only the version string differs.
    let version = machine.truth().version.as_bytes();
    let copies = (0..elf.len()).filter(|at| elf[*at..].starts_with(version));
    for at in copies.collect::<Vec<_>>() {
        elf[at + 10] ^= 1;
    }
    let elf = KernelElf::from_bytes(elf).unwrap();
    let Err(error) = plan(machine.memory(), &elf, &PlanOptions::default()) else {
        panic!("another kernel was found");
    };
    assert!(
        matches!(&error, TakeError::Locate(LocateError::NoKernel { .. })),
        "{error}"
    );
}

#[test]
fn unknown_version_is_refused() {
    let machine = tiny();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let version = Some(4);
    assert!(
        plan(
            machine.memory(),
            &elf,
            &PlanOptions::default().version(version)
        )
        .is_err()
    );
}

/// A machine of 1 TiB whose dump_avail covers all of it, with a few MiB in use and without
/// `vm_page_array`, so that all pages count as dumpable.
const VAST: &str = r#"
seed = 7

[memory]
size = "1 TiB"
vm_page_array = false

[content]
kernel = "4 MiB"
direct = "4 MiB"
user = "1 MiB"

[msgbuf]
size = "16 KiB"
"#;

#[test]
fn time_depends_on_the_used_memory_and_not_on_its_size() {
    let machine = Machine::parse(VAST).unwrap();
    let begun = std::time::Instant::now();
    let taken = taken(&machine, None);
    assert_eq!(taken.plan.dump_avail().bits(), machine.truth().bits);
    assert_eq!(taken.plan.bitmap().count(), machine.truth().dumped_pages());
    // One bit for each page: 32 MiB.
    let bits = u64::from(taken.plan.header().bitmapsize) * 8;
    assert!((1 << 28..1 << 29).contains(&bits), "{bits} bits");
    assert!(taken.payload().size().unwrap() < 128 << 20);
    // Generous: a walk of all pages of 1 TiB would take minutes.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

/// Checks a machine of `testdata/machines` page by page, and that there are no notes.
fn check_described(text: &str) {
    let machine = Machine::parse(text).unwrap();
    let taken = taken(&machine, None);
    check(&machine, &taken);
    assert!(taken.notes.is_empty(), "{:?}", taken.notes);
}

#[test]
fn kernel_map_with_a_1_gib_leaf_is_dumped() {
    check_described(include_str!("../../../testdata/machines/giant.toml"));
}

#[test]
fn many_nodump_pages_are_omitted() {
    check_described(include_str!("../../../testdata/machines/nodump.toml"));
}

#[test]
fn dump_of_a_12_1_machine_has_its_pages() {
    check_described(include_str!("../../../testdata/machines/old-12.1.toml"));
    check_described(include_str!("../../../testdata/machines/old-10.4.toml"));
}

#[test]
fn dump_of_a_relocated_machine_with_holes_has_its_pages() {
    check_described(include_str!("../../../testdata/machines/relocated.toml"));
}

#[test]
fn machine_without_a_panic_has_no_panic_string() {
    let text = include_str!("../../../testdata/machines/running.toml");
    check_described(text);
    let machine = Machine::parse(text).unwrap();
    assert!(machine.truth().panic.is_none());
    assert!(taken(&machine, None).header().panicstring.is_empty());
}

#[test]
fn dump_of_the_small_machine_has_its_pages() {
    check_described(include_str!("../../../testdata/machines/small.toml"));
}

/// Checks a machine of another port page by page, then its header.
fn check_port(text: &str, arch: &str, version: u32) {
    let machine = Machine::parse(text).unwrap();
    let truth = machine.truth();
    let taken = taken(&machine, None);
    check(&machine, &taken);
    assert!(taken.notes.is_empty(), "{:?}", taken.notes);

    let header = taken.plan.header();
    assert_eq!((header.arch.name, header.version), (arch, version));
    assert_eq!(header.page_size(), truth.page_size);
    assert_eq!(header.kernbase, truth.kernbase.0);
    let dmap = VirtAddr(header.dmapbase)..VirtAddr(header.dmapend);
    assert_eq!(dmap, truth.dmap);
    assert_eq!(header.dmapphys, truth.dmap_phys.0);
    assert_eq!(u64::from(header.msgbufsize), truth.msgbuf.ring.len() as u64);
    assert_eq!(taken.plan.dump_avail().bits(), truth.bits);
    assert_eq!(taken.machine.located.kernphys, truth.kernphys);
    assert_eq!(taken.machine.located.root, truth.root);
    // A page of the section for each table of the second to last level.
    let entry = if arch == "i386" && header.paemode == 0 {
        4
    } else {
        8
    };
    let step = truth.page_size / entry * truth.page_size;
    let span = truth.kva_end.0 - header.kernbase;
    let pages = span.div_ceil(step);
    assert_eq!(u64::from(header.pmapsize), pages * truth.page_size);

    let kernel = taken.header();
    let name = header.machine_arch();
    assert_eq!(kernel.architecture, name.as_bytes());
    assert_eq!(kernel.hostname, truth.hostname.as_bytes());
    assert_eq!(kernel.versionstring, truth.version.as_bytes());
    assert_eq!(kernel.dumptime, truth.time_second);
    assert_eq!(u64::from(kernel.blocksize), truth.page_size);

    let mut section = vec![0; taken.plan.layout().msgbuf_len() as usize];
    let at = taken.plan.layout().msgbuf_offset();
    taken.payload().read_exact_at(&mut section, at).unwrap();
    assert!(section.starts_with(&truth.msgbuf.ring));
    let buffer = MessageBuffer::of(&dump(&taken), None).unwrap();
    assert!(buffer.text() == truth.msgbuf.text);

    // Its older versions have the same pages.
    for older in taken_versions(&machine, version) {
        check(&machine, &older);
    }
}

/// Dumps of the versions below `version` that can describe the machine.
fn taken_versions(machine: &Machine, version: u32) -> Vec<Taken> {
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let truth = machine.truth();
    // The bitmap of version 1 starts at address 0: LPA2 came after it.
    let older = truth.page_size == 4096 && truth.dmap_phys < PhysAddr(1 << 48);
    (1..version)
        .filter(|_| older)
        .map(|version| {
            let version = Some(version);
            plan(
                machine.memory(),
                &elf,
                &PlanOptions::default().version(version),
            )
            .unwrap()
        })
        .collect()
}

#[test]
fn dump_of_an_arm64_machine_has_its_pages() {
    let text = include_str!("../../../testdata/machines/arm64.toml");
    check_port(text, "arm64", 3);
}

#[test]
fn dump_of_an_arm64_machine_with_16k_pages_has_its_pages() {
    let text = include_str!("../../../testdata/machines/arm64-16k.toml");
    check_port(text, "arm64", 3);
}

#[test]
fn dump_of_an_arm64_machine_with_memory_above_2_to_50_has_its_pages() {
    let text = include_str!("../../../testdata/machines/arm64-lpa2.toml");
    check_port(text, "arm64", 3);
    let text = include_str!("../../../testdata/machines/arm64-lpa2-16k.toml");
    check_port(text, "arm64", 3);
}

#[test]
fn dump_of_a_riscv64_machine_has_its_pages() {
    let text = include_str!("../../../testdata/machines/riscv64.toml");
    check_port(text, "riscv", 2);
}

/// Sv48 has one more level; the kernel's addresses and the dump's format are the same.
#[test]
fn dump_of_a_riscv64_machine_with_sv48_has_its_pages() {
    let text = include_str!("../../../testdata/machines/riscv64-sv48.toml");
    check_port(text, "riscv", 2);
    assert_eq!(
        taken(&Machine::parse(text).unwrap(), None)
            .machine
            .located
            .paging,
        Paging::Sv48
    );
}

/// With five levels the direct map is at another address, and the kernel map is below the root's
/// last entry: the PML4 has no recursive entry.
#[test]
fn dump_of_a_machine_with_57_bit_addresses_has_its_pages() {
    let text = include_str!("../../../testdata/machines/la57.toml");
    check_described(text);
    let machine = Machine::parse(text).unwrap();
    let truth = machine.truth();
    let taken = taken(&machine, None);
    let header = taken.plan.header();
    assert_eq!((header.arch.name, header.version), ("amd64", 3));
    assert_eq!(header.kernbase, 0xffff_fe00_0000_0000);
    assert_eq!(header.dmapbase, 0xff01_0000_0000_0000);
    assert_eq!(header.dmapend, 0xff21_0000_0000_0000);
    // The PML4 was found, to which the root's last entry points.
    let located = taken.machine.located;
    let mut entry = [0; 8];
    let memory = machine.memory();
    memory
        .read(PhysAddr(truth.root.0 + 511 * 8), &mut entry)
        .unwrap();
    assert_eq!(u64::from_le_bytes(entry) & !0xfff, located.root.0);
    memory
        .read(located.root.wrapping_add(256 * 8), &mut entry)
        .unwrap();
    assert_eq!(u64::from_le_bytes(entry), 0);
}

/// `KPML5phys` must lead to `KPML4phys`.
#[test]
fn wrong_root_of_five_levels_is_refused() {
    let text = include_str!("../../../testdata/machines/la57.toml");
    let machine = Machine::parse(text).unwrap();
    let root = machine.truth().root;
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    for (slot, entry) in [(511, 0x5000_u64 | 3), (256, 0)] {
        let mut memory = Patched::new(machine.memory());
        memory.put(root.0 + slot * 8, &entry.to_le_bytes());
        let found = plan(Arc::new(memory), &elf, &PlanOptions::default());
        assert!(
            matches!(found, Err(TakeError::Locate(LocateError::NoKernel { .. }))),
            "{slot}"
        );
    }
}

/// The state of 15.0 while `debug.vm.lazy_page_init` is in progress: entries in use are correct,
/// others are zero or garbage.
#[test]
fn nodump_pages_are_omitted_while_struct_vm_page_is_being_initialized() {
    let machine = Machine::parse(include_str!("../../../testdata/machines/nodump.toml")).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let whole = taken(&machine, None);
    assert!(whole.notes.is_empty(), "{:?}", whole.notes);
    let view = &whole.machine.view;
    let address = |name: &str| elf.symbol(name).unwrap().value;
    let word = |at: u64| {
        let mut bytes = [0; 8];
        view.read_virt(VirtAddr(at), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    // sys/vm/vm_phys.h: start, end, first_page. sys/vm/vm_page.h of 15.0: 88 bytes, phys_addr at
    // 32.
    let count = word(address("vm_phys_nsegs")) & 0xffff_ffff;
    let segs = (0..count).map(|i| address("vm_phys_segs") + i * 48);
    let mut lazy = Patched::new(machine.memory());
    let (mut unset, mut all, mut used) = (0, 0, Vec::new());
    for seg in segs {
        let (start, end, first_page) = (word(seg), word(seg + 8), word(seg + 16));
        for (index, pa) in (start..end).step_by(PAGE as usize).enumerate() {
            all += 1;
            let bit = whole.plan.dump_avail().bit_of(PhysAddr(pa)).unwrap();
            let nodump = machine
                .truth()
                .nodump
                .iter()
                .any(|range| range.contains(&PhysAddr(pa)));
            if index == 0 || nodump || whole.plan.bitmap().contains(bit) {
                used.extend((index > 0).then_some(first_page + index as u64 * 88 + 32));
                continue;
            }
            unset += 1;
            let entry = match unset % 8 {
                0 => [0xa5; 88],
                _ => [0; 88],
            };
            for (at, byte) in (first_page + index as u64 * 88..).zip(entry) {
                lazy.put(view.translate(VirtAddr(at)).unwrap().0, &[byte]);
            }
        }
    }
    assert!(unset > all / 2, "{unset} of {all}");
    let lazy: Arc<dyn PhysMemory> = Arc::new(lazy);
    let half = plan(Arc::clone(&lazy), &elf, &PlanOptions::default()).unwrap();
    assert_eq!(half.notes, []);
    assert!(half.plan.bitmap() == whole.plan.bitmap());
    // Pages in use whose entries have other addresses contradict the layout.
    let mut wrong = Patched::new(lazy);
    for at in used {
        wrong.put(view.translate(VirtAddr(at)).unwrap().0, &[0xff]);
    }
    let wrong = plan(Arc::new(wrong), &elf, &PlanOptions::default()).unwrap();
    assert_eq!(wrong.notes, [Note::UnknownVmPage]);
}

#[test]
fn dump_of_an_i386_machine_has_its_pages() {
    let text = include_str!("../../../testdata/machines/i386.toml");
    check_port(text, "i386", 2);
}

#[test]
fn dump_of_an_i386_machine_with_pae_has_its_pages() {
    let text = include_str!("../../../testdata/machines/i386-pae.toml");
    check_port(text, "i386", 2);
}

#[test]
fn i386_kernels_of_10_4_and_12_1_get_version_1_by_default() {
    for text in [
        include_str!("../../../testdata/machines/i386-12.1.toml"),
        include_str!("../../../testdata/machines/i386-pae-12.1.toml"),
        include_str!("../../../testdata/machines/i386-10.4.toml"),
        include_str!("../../../testdata/machines/i386-pae-10.4.toml"),
    ] {
        check_port(text, "i386", 1);
        let machine = Machine::parse(text).unwrap();
        // Before 13 the i386 kernel did not check the flags of a page.
        assert!(!machine.truth().nodump.is_empty());
        let newer = taken(&machine, Some(2));
        assert_eq!(newer.plan.header().version, 2);
        check(&machine, &newer);
    }
}

#[test]
fn dump_with_16k_pages_needs_version_3() {
    let machine =
        Machine::parse(include_str!("../../../testdata/machines/arm64-16k.toml")).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    for version in [Some(1), Some(2), Some(4)] {
        let error = plan(
            machine.memory(),
            &elf,
            &PlanOptions::default().version(version),
        );
        assert!(
            matches!(error, Err(TakeError::Unsupported { .. })),
            "version {version:?}"
        );
    }
}

#[test]
fn other_ports_are_not_supported() {
    let machine = tiny();
    // e_machine: powerpc64, s390.
    for other in [21_u16, 22] {
        let mut elf = machine.kernel().to_vec();
        elf[18..20].copy_from_slice(&other.to_le_bytes());
        let elf = KernelElf::from_bytes(elf).unwrap();
        let error = plan(machine.memory(), &elf, &PlanOptions::default());
        assert!(matches!(
            error,
            Err(TakeError::Locate(LocateError::Unsupported { .. }))
        ));
    }
}
