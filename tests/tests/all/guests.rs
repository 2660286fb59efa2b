//! Guests of every kind of kernel file: which pages a dump from outside has, against a second walk
//! through the tables; what the file may lack; what is said when it is the wrong one.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_kernel::locate::{Findings, LocateError, identify};
use livecore_livedump::take::{PlanOptions, TakeError, Taken, plan};
use livecore_minidump::KernelElf;
use livecore_minidump::{PhysAddr, PhysMemory};
use livecore_synth::Machine;
use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;
use livecore_tests::outside::{self, Tables};

const OLD: &str = include_str!("../../../testdata/machines/old-12.1.toml");
const RELOCATED: &str = include_str!("../../../testdata/machines/relocated.toml");
const SMALL: &str = include_str!("../../../testdata/machines/small.toml");
const DEBUG: &str = include_str!("../../../testdata/machines/debug.toml");

/// `KERNBASE` + 2 MiB, where an amd64 kernel's image begins.
const KERNSTART: u64 = 0xffff_ffff_8020_0000;

fn elf(bytes: &[u8]) -> KernelElf {
    KernelElf::from_bytes(bytes.to_vec()).unwrap()
}

fn planned(machine: &Machine, kernel: &[u8]) -> Result<Taken, TakeError> {
    plan(machine.memory(), &elf(kernel), &PlanOptions::default())
}

/// Physical addresses of a dump's pages.
fn pages(taken: &Taken) -> BTreeSet<u64> {
    let ranges = taken.plan.dump_avail();
    let address = |bit| ranges.addr_of(bit).unwrap().0;
    taken.plan.bitmap().iter().map(address).collect()
}

fn bytes(taken: &Taken) -> Vec<u8> {
    let payload = taken.payload();
    let mut bytes = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The pages that the second walk finds, from the machine's memory and the kernel's symbols.
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
    // The image is linear.
    let place = |name: &str| elf.symbol(name).unwrap().value - KERNSTART + truth.kernphys;
    let value = |name: &str, len: usize| number(place(name), len);
    let root = value("KPML4phys", 8);
    let mut avail: Vec<Range<u64>> = Vec::new();
    for index in 0.. {
        let at = place("dump_avail") + 16 * index;
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
    // PG_NODUMP is the builder's to tell.
    pages.retain(|page| !truth.nodump.iter().any(|range| range.contains(page)));
    pages
}

#[test]
fn a_dump_has_the_pages_that_a_second_walk_finds() {
    for (name, text) in [
        ("old-12.1", OLD),
        ("relocated", RELOCATED),
        ("small", SMALL),
        ("tiny", include_str!("../../../testdata/machines/tiny.toml")),
        (
            "running",
            include_str!("../../../testdata/machines/running.toml"),
        ),
    ] {
        let machine = Machine::parse(text).unwrap();
        let expected = walked(&machine);
        let found = pages(&planned(&machine, machine.kernel()).unwrap());
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

/// Type information with `struct vm_page` as 12.1 to 14 have it, but for where `flags` are.
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

/// Files of one kernel that a dump is taken with: a name, and the file.
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
            "CTF that memory contradicts",
            file().add(".SUNW_ctf", wrong, false).bytes(),
        ),
        (
            "CTF that is cut",
            file()
                .add(".SUNW_ctf", &right[..right.len() / 2], false)
                .bytes(),
        ),
        ("GNU's CTF", file().add(".ctf", right, false).bytes()),
    ]
}

#[test]
fn every_file_of_a_kernel_gives_the_same_dump() {
    for (name, text, flags, wide) in [
        // FreeBSD 12.1's and 14's places of `flags`.
        ("old-12.1", OLD, 90, true),
        ("relocated", RELOCATED, 94, false),
        // Compiled, with DWARF.
        ("debug", DEBUG, 94, false),
    ] {
        let machine = Machine::parse(text).unwrap();
        let expected = bytes(&planned(&machine, machine.kernel()).unwrap());
        let version = if wide { 2 } else { 3 };
        let right = types(version, 48, flags, wide);
        let wrong = types(version, 40, flags, wide);
        for (what, file) in files(machine.kernel(), &right, &wrong) {
            let taken = planned(&machine, &file).unwrap_or_else(|e| panic!("{name}, {what}: {e}"));
            assert!(bytes(&taken) == expected, "{name}, {what}");
            assert!(taken.notes.is_empty(), "{name}, {what}: {:?}", taken.notes);
        }
    }
}

#[test]
fn type_information_is_believed_before_what_is_known_of_releases() {
    let machine = Machine::parse(OLD).unwrap();
    let plain = pages(&planned(&machine, machine.kernel()).unwrap());
    // `flags` where `phys_addr` has its highest byte, which is zero: nothing is PG_NODUMP then.
    let file = Elf::new(machine.kernel().to_vec()).add(".SUNW_ctf", &types(2, 48, 54, true), false);
    let all = pages(&planned(&machine, &file.bytes()).unwrap());
    assert!(plain.is_subset(&all));
    let nodump = &machine.truth().nodump;
    let added = all.difference(&plain).collect::<Vec<_>>();
    assert!(!added.is_empty());
    assert!(
        added
            .iter()
            .all(|page| nodump.iter().any(|range| range.contains(page)))
    );
}

#[test]
fn a_kernel_that_does_not_run_there_is_refused_with_both_versions() {
    let (old, new) = (Machine::parse(OLD).unwrap(), Machine::parse(SMALL).unwrap());
    let error = planned(&old, new.kernel())
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

/// Memory in which pages are at another place too: where they are, and where from.
struct Copied {
    inner: Arc<dyn PhysMemory>,
    pages: Vec<(u64, u64)>,
}

impl PhysMemory for Copied {
    fn ranges(&self) -> &[Range<u64>] {
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
fn an_image_of_an_earlier_boot_does_not_mislead() {
    let machine = Machine::parse(OLD).unwrap();
    let own = planned(&machine, machine.kernel()).unwrap();
    let dumped = pages(&own);
    let truth = machine.truth();
    let elf = elf(machine.kernel());
    // What the kernel is known by: its version string, and where its tables are.
    let offsets = ["version", "KPML4phys"].map(|name| {
        let offset = elf.symbol(name).unwrap().value - KERNSTART;
        offset - offset % 4096
    });
    // 2 MiB boundaries behind which nothing of the dump is, and no table.
    let is_free = |page: u64| {
        let tables = &truth.page_tables;
        !dumped.contains(&page) && !tables.iter().any(|(_, a, b)| *a == page || *b == page)
    };
    let places = (truth.kernphys + (2 << 20)..44 << 20).step_by(2 << 20);
    let free = places.filter(|to| offsets.iter().all(|offset| is_free(to + offset)));
    let mut tried = 0;
    for to in free {
        let pages_of = offsets.map(|offset| (to + offset, truth.kernphys + offset));
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
fn a_file_without_symbols_is_not_supported() {
    let machine = Machine::parse(OLD).unwrap();
    let file = Elf::new(machine.kernel().to_vec()).remove(|name| name == ".symtab");
    let error = planned(&machine, &file.bytes()).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, TakeError::Locate(LocateError::Unsupported { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("stripped"), "{error}");
}

#[test]
fn memory_without_a_kernel_s_file_tells_the_release_and_the_tables() {
    for text in [OLD, RELOCATED, SMALL] {
        let machine = Machine::parse(text).unwrap();
        let truth = machine.truth();
        let found = identify(&machine.memory());
        let line = truth.version.lines().next().unwrap();
        assert_eq!(found.versions[0].text, line);
        assert!(found.kernel_roots.contains(&truth.root), "{found:x?}");
        assert_eq!(found.kernphys, Some(truth.kernphys));
    }
    // Nothing is found in nothing.
    struct Nothing(Vec<Range<u64>>);
    impl PhysMemory for Nothing {
        fn ranges(&self) -> &[Range<u64>] {
            &self.0
        }
        fn read(&self, _: PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(0);
            Ok(())
        }
    }
    let nothing: Arc<dyn PhysMemory> =
        Arc::new(Nothing(vec![0x1000..0x9f000, 0x10_0000..0x80_0000]));
    let found = identify(&nothing);
    assert_eq!(found, Findings::default());
    assert_eq!(found.sentences().len(), 1);
}

#[test]
fn older_readers_get_version_2_of_a_new_kernel_and_newer_ones_3_of_an_old_one() {
    for (text, version) in [(OLD, 3), (RELOCATED, 2)] {
        let machine = Machine::parse(text).unwrap();
        let own = planned(&machine, machine.kernel()).unwrap();
        let options = PlanOptions {
            version: Some(version),
        };
        let other = plan(machine.memory(), &elf(machine.kernel()), &options).unwrap();
        assert_ne!(own.plan.header().version, version);
        assert_eq!(other.plan.header().version, version);
        assert_eq!(pages(&own), pages(&other));
        assert_eq!(other.plan.dump_avail().is_known(), version == 3);
    }
}
