//! Dumps of guests with every kind of kernel file: their pages against the independent page-table
//! walk, incomplete kernel files, and errors for the wrong kernel.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use livecore_kernel::locate::{Findings, LocateError, identify};
use livecore_livedump::take::{PlanOptions, TakeError, plan};
use livecore_minidump::{PhysAddr, PhysMemory, VirtAddr};
use livecore_synth::Machine;
use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;
use livecore_tests::outside::{self, Tables};

use crate::dumps::{elf, pages, payload, planned};

const OLD: &str = machine_text!("old-12.1");
const RELOCATED: &str = machine_text!("relocated");
const SMALL: &str = machine_text!("small");
const DEBUG: &str = machine_text!("debug");

/// `KERNBASE` + 2 MiB, the start of an amd64 kernel's image.
const KERNSTART: u64 = 0xffff_ffff_8020_0000;

/// The pages of a dump by the independent walk, from the machine's memory and the kernel's symbols.
fn walked(machine: &Machine) -> BTreeSet<u64> {
    let memory = machine.memory();
    let elf = elf(machine.kernel());
    let truth = machine.truth();
    let read = |at: u64, buf: &mut [u8]| memory.read(PhysAddr(at), buf).unwrap();
    let number = |at: u64, len: usize| {
        let mut bytes = [0; 8];
        read(at, &mut bytes[..len]);
        u64::from_le_bytes(bytes)
    };
    // The image is contiguous in physical memory.
    let address = |name: &str| elf.symbol(name).unwrap().value - KERNSTART + truth.kernphys.0;
    let value = |name: &str, len: usize| number(address(name), len);
    let root = value("KPML4phys", 8);
    let mut avail: Vec<Range<u64>> = Vec::new();
    for index in 0.. {
        let at = address("dump_avail") + 16 * index;
        let (start, end) = (number(at, 8), number(at + 8, 8));
        if end == 0 {
            break;
        }
        avail.push(start..end);
    }
    let bitmap = value("vm_page_dump", 8);
    let bitmap = outside::translate(&read, Tables::Amd64, root, bitmap).unwrap();
    // The bitmap is contiguous in the direct map.
    let is_set = |bit: u64| number(bitmap + bit / 8, 1) >> (bit % 8) & 1 == 1;
    let mut own = Vec::new();
    if elf.symbol("vm_page_dump_pages").is_some() {
        let all = avail
            .iter()
            .flat_map(|r| r.start / 4096..r.end.div_ceil(4096));
        own.extend(
            all.zip(0..)
                .filter(|(_, bit)| is_set(*bit))
                .map(|(n, _)| n * 4096),
        );
    } else {
        let bits = value("vm_page_dump_size", 4) * 8;
        own.extend((0..bits).filter(|bit| is_set(*bit)).map(|n| n * 4096));
    }
    let boot = 0xffff_ffff_8000_0000 + value("nkpt", 4) * (2 << 20);
    let kva = 0xffff_fe00_0000_0000..boot.max(value("kernel_vm_end", 8));
    let own = own.into_iter();
    let mut pages = outside::pages(&read, Tables::Amd64, root, kva, own, &avail, None);
    // The walk does not read PG_NODUMP.
    pages.retain(|page| {
        !truth
            .nodump
            .iter()
            .any(|range| range.contains(&PhysAddr(*page)))
    });
    pages
}

#[test]
fn dump_has_the_pages_of_the_independent_walk() {
    for (name, text) in [
        ("old-12.1", OLD),
        ("relocated", RELOCATED),
        ("small", SMALL),
        ("tiny", machine_text!("tiny")),
        ("running", machine_text!("running")),
    ] {
        let machine = Machine::parse(text).unwrap();
        let expected = walked(&machine);
        let found = pages(&planned(machine.memory(), machine.kernel()).unwrap());
        let extra = found.difference(&expected).take(4).collect::<Vec<_>>();
        let lost = expected.difference(&found).take(4).collect::<Vec<_>>();
        assert!(found.len() > 500, "{name}");
        assert!(
            extra.is_empty() && lost.is_empty(),
            "{name}: {} and {} pages; extra {extra:x?}, lost {lost:x?}",
            found.len(),
            expected.len()
        );
    }
}

/// Type information with `struct vm_page` of 12.1 to 14 and `flags` at the given offset.
fn types(version: u8, phys_addr: u64, flags: u64, wide: bool) -> Vec<u8> {
    let mut ctf = Ctf::new(version, false);
    let long = ctf.integer("unsigned long", 8);
    let flag = ctf.integer("flag_t", if wide { 2 } else { 1 });
    let page = ctf.forward("page");
    let page = ctf.pointer(page);
    let members = [
        ("phys_addr", long, 8 * phys_addr),
        ("flags", flag, 8 * flags),
    ];
    ctf.structure("vm_page", 104, &members);
    let members = [
        ("start", long, 0),
        ("end", long, 64),
        ("first_page", page, 128),
    ];
    ctf.structure("vm_phys_seg", 48, &members);
    ctf.bytes(true)
}

/// Variants of a kernel file, with their names.
fn files(kernel: &[u8], right: &[u8], wrong: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let file = || Elf::new(kernel.to_vec());
    vec![
        ("symbols only", file().only_symbols().bytes()),
        (
            "without debug information",
            file().remove(|name| name.starts_with(".debug")).bytes(),
        ),
        ("CTF", file().add(".SUNW_ctf", right, false).bytes()),
        (
            "CTF and symbols only",
            file().add(".SUNW_ctf", right, false).only_symbols().bytes(),
        ),
        (
            "CTF that contradicts memory",
            file().add(".SUNW_ctf", wrong, false).bytes(),
        ),
        (
            "truncated CTF",
            file()
                .add(".SUNW_ctf", &right[..right.len() / 2], false)
                .bytes(),
        ),
        ("GNU's CTF", file().add(".ctf", right, false).bytes()),
    ]
}

#[test]
fn dump_does_not_depend_on_the_variant_of_the_kernel_file() {
    for (name, text, flags, wide) in [
        // Offset and size of `flags` in FreeBSD 12.1 and 14.
        ("old-12.1", OLD, 90, true),
        ("relocated", RELOCATED, 94, false),
        // Has DWARF.
        ("debug", DEBUG, 94, false),
    ] {
        let machine = Machine::parse(text).unwrap();
        let expected = payload(&planned(machine.memory(), machine.kernel()).unwrap());
        let version = if wide { 2 } else { 3 };
        let right = types(version, 48, flags, wide);
        let wrong = types(version, 40, flags, wide);
        for (what, file) in files(machine.kernel(), &right, &wrong) {
            let taken =
                planned(machine.memory(), &file).unwrap_or_else(|e| panic!("{name}, {what}: {e}"));
            assert!(payload(&taken) == expected, "{name}, {what}");
            assert!(taken.notes.is_empty(), "{name}, {what}: {:?}", taken.notes);
        }
    }
}

#[test]
fn type_information_takes_precedence_over_known_releases() {
    let machine = Machine::parse(OLD).unwrap();
    let plain = pages(&planned(machine.memory(), machine.kernel()).unwrap());
    // `flags` at the highest byte of `phys_addr`, which is zero: no page is PG_NODUMP.
    let file = Elf::new(machine.kernel().to_vec()).add(".SUNW_ctf", &types(2, 48, 54, true), false);
    let all = pages(&planned(machine.memory(), &file.bytes()).unwrap());
    assert!(plain.is_subset(&all));
    let nodump = &machine.truth().nodump;
    let added = all.difference(&plain).collect::<Vec<_>>();
    assert!(!added.is_empty());
    assert!(
        added
            .iter()
            .all(|page| nodump.iter().any(|range| range.contains(&PhysAddr(**page))))
    );
}

#[test]
fn wrong_kernel_is_refused_with_both_versions_in_the_error() {
    let (old, new) = (Machine::parse(OLD).unwrap(), Machine::parse(SMALL).unwrap());
    let error = planned(old.memory(), new.kernel())
        .map(|_| ())
        .unwrap_err()
        .to_string();
    for machine in [&old, &new] {
        let line = machine.truth().version.lines().next().unwrap();
        assert!(error.contains(&format!("{line:?}")), "{error}");
    }
    assert!(
        error.contains(&format!("{:#x}", old.truth().root)),
        "{error}"
    );
}

/// Memory in which some pages are copies of others.
struct Copied {
    inner: Arc<dyn PhysMemory>,
    /// Address of the copy and of the original.
    pages: Vec<(u64, u64)>,
}

impl PhysMemory for Copied {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.inner.ranges()
    }
    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
        self.inner.read(PhysAddr(at), buf)?;
        for (byte, here) in buf.iter_mut().zip(at..) {
            let of = |(to, _): &&(u64, u64)| here / 4096 == to / 4096;
            if let Some((_, from)) = self.pages.iter().find(of) {
                let mut one = [0];
                self.inner.read(PhysAddr(from + here % 4096), &mut one)?;
                *byte = one[0];
            }
        }
        Ok(())
    }
}

#[test]
fn remains_of_an_earlier_boot_are_not_taken_for_the_kernel() {
    let machine = Machine::parse(OLD).unwrap();
    let own = planned(machine.memory(), machine.kernel()).unwrap();
    let dumped = pages(&own);
    let truth = machine.truth();
    let elf = elf(machine.kernel());
    // The kernel is identified by its version string and its page-table root.
    let offsets = ["version", "KPML4phys"].map(|name| {
        let offset = elf.symbol(name).unwrap().value - KERNSTART;
        offset - offset % 4096
    });
    // Copy to 2 MiB boundaries after which there is no page of the dump and no page table.
    let is_free = |page: u64| {
        let tables = &truth.page_tables;
        !dumped.contains(&page)
            && !tables
                .iter()
                .any(|(_, a, b)| *a == VirtAddr(page) || *b == PhysAddr(page))
    };
    let targets = (truth.kernphys.0 + (2 << 20)..44 << 20).step_by(2 << 20);
    let free = targets.filter(|to| offsets.iter().all(|offset| is_free(to + offset)));
    let mut tried = 0;
    for to in free {
        let pages_of = offsets.map(|offset| (to + offset, truth.kernphys.0 + offset));
        let memory = Arc::new(Copied {
            inner: machine.memory(),
            pages: pages_of.to_vec(),
        });
        let taken = plan(memory, &elf, &PlanOptions::default()).unwrap();
        assert_eq!(
            taken.machine.located, own.machine.located,
            "copy at {to:#x}"
        );
        assert_eq!(pages(&taken), dumped);
        tried += 1;
    }
    assert!(tried > 0);
}

#[test]
fn stripped_kernel_file_is_unsupported() {
    let machine = Machine::parse(OLD).unwrap();
    let file = Elf::new(machine.kernel().to_vec()).remove(|name| name == ".symtab");
    let error = planned(machine.memory(), &file.bytes())
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(error, TakeError::Locate(LocateError::Unsupported { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("stripped"), "{error}");
}

#[test]
fn identify_finds_release_and_page_tables_without_a_kernel_file() {
    for text in [OLD, RELOCATED, SMALL] {
        let machine = Machine::parse(text).unwrap();
        let truth = machine.truth();
        let found = identify(&machine.memory());
        let line = truth.version.lines().next().unwrap();
        assert_eq!(found.versions[0].text, line);
        assert!(found.kernel_roots.contains(&truth.root), "{found:x?}");
        assert_eq!(found.kernphys, Some(truth.kernphys));
    }
    struct Zeros(Vec<Range<PhysAddr>>);
    impl PhysMemory for Zeros {
        fn ranges(&self) -> &[Range<PhysAddr>] {
            &self.0
        }
        fn read(&self, _: PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(0);
            Ok(())
        }
    }
    let zeros: Arc<dyn PhysMemory> = Arc::new(Zeros(vec![
        PhysAddr(0x1000)..PhysAddr(0x9f000),
        PhysAddr(0x10_0000)..PhysAddr(0x80_0000),
    ]));
    let found = identify(&zeros);
    assert_eq!(found, Findings::default());
    assert_eq!(found.sentences().len(), 1);
}

#[test]
fn either_minidump_version_can_be_written_for_any_kernel() {
    for (text, version) in [(OLD, 3), (RELOCATED, 2)] {
        let machine = Machine::parse(text).unwrap();
        let own = planned(machine.memory(), machine.kernel()).unwrap();
        let options = PlanOptions::default().version(version);
        let other = plan(machine.memory(), &elf(machine.kernel()), &options).unwrap();
        assert_ne!(own.plan.header().version, version);
        assert_eq!(other.plan.header().version, version);
        assert_eq!(pages(&own), pages(&other));
        assert_eq!(other.plan.dump_avail().is_known(), version == 3);
    }
}
