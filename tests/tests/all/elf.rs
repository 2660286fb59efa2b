//! Full dumps and exported ELF cores of random machines of every architecture. The cores are read
//! with goblin, which is independent of their writer.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;
use livecore_compress::{Codec, NoProgress, ReadAt};
use livecore_minidump::convert::{Target, convert, convert_full, to_elf, to_full};
use livecore_minidump::elf::core::ElfCore;
use livecore_minidump::elf::export::{ExportOptions, export};
use livecore_minidump::elf::notes::{NoteStyle, ThreadNote};
use livecore_minidump::{
    AnyDump, Container, Dump, HeaderOrigin, KernelMemory, OpenOptions, PhysAddr, VirtAddr,
};
use livecore_tests::machines::{kinds, machine};
use livecore_tests::mkdump;
use livecore_tests::random::Random;

use crate::dumps::{CODECS, CONTAINERS, open, open_full, target};

const SEEDS: u64 = 3;
const FRAME: u32 = 1 << 20;

fn plain() -> Target {
    target(Container::Saved, Codec::None, FRAME)
}

fn core_of(dump: &Dump, style: NoteStyle) -> Vec<u8> {
    let thread = ThreadNote {
        tid: 100_001,
        pid: 7,
        name: "a/b".into(),
        ..ThreadNote::default()
    };
    let options = ExportOptions::default().style(style).threads(vec![thread]);
    let export = export(dump, &options).unwrap();
    let mut out = Vec::new();
    let written = to_elf(dump, &export, &plain(), &mut out, &NoProgress).unwrap();
    assert_eq!(written.file_len, out.len() as u64);
    out
}

/// The pages of a core by virtual address.
fn pages_of<'a>(elf: &Elf<'_>, core: &'a [u8], page: u64) -> BTreeMap<u64, (u64, &'a [u8])> {
    let mut pages = BTreeMap::new();
    let mut end = 0;
    for load in elf.program_headers.iter().filter(|p| p.p_type == PT_LOAD) {
        assert!(
            load.p_vaddr >= end,
            "segments not ascending at {:#x}",
            load.p_vaddr
        );
        assert_eq!(load.p_filesz, load.p_memsz);
        end = load.p_vaddr.wrapping_add(load.p_memsz);
        for skip in (0..load.p_filesz).step_by(page as usize) {
            let at = (load.p_offset + skip) as usize;
            let bytes = &core[at..at + page as usize];
            let before = pages.insert(load.p_vaddr + skip, (load.p_paddr + skip, bytes));
            assert!(before.is_none(), "{:#x} twice", load.p_vaddr + skip);
        }
    }
    pages
}

#[test]
fn exported_core_contains_exactly_the_mapped_pages_and_the_minidump() {
    let mut checked = 0;
    for kind in kinds() {
        for seed in 1..=SEEDS {
            let text = machine(&kind, seed);
            let built = mkdump::build_all(&text).unwrap();
            let oracle = built.oracle.as_ref().unwrap();
            let name = format!("{} v{} seed {seed}", kind.architecture, kind.version);
            let dump = open(&built.bytes);
            for style in [NoteStyle::FreeBsd, NoteStyle::Linux] {
                let core = core_of(&dump, style);
                let elf = Elf::parse(&core).unwrap();
                let big = kind.architecture.contains("powerpc64")
                    || kind.architecture.starts_with("mips");
                let little =
                    !big || kind.architecture.ends_with("le") || kind.architecture.ends_with("el");
                assert_eq!(elf.little_endian, little, "{name}");
                let pages = pages_of(&elf, &core, oracle.page_size);
                for mapped in &oracle.mapped {
                    let saved = oracle.pages.get(&mapped.pa);
                    let found = pages.get(&mapped.va);
                    assert_eq!(found.is_some(), saved.is_some(), "{name} {:#x}", mapped.va);
                    let Some((pa, bytes)) = found else { continue };
                    if elf.is_64 {
                        assert_eq!(*pa, mapped.pa, "{name} {:#x}", mapped.va);
                    }
                    assert!(
                        *bytes == saved.unwrap().as_slice(),
                        "{name} {:#x}",
                        mapped.va
                    );
                    checked += 1;
                }
                let (base, end, phys) = oracle.dmap;
                let has_direct = !matches!(kind.architecture, "i386" | "i386pae" | "arm")
                    && !kind.architecture.starts_with("mips");
                for (pa, bytes) in oracle.pages.iter().filter(|_| has_direct) {
                    let Some(va) = pa.checked_sub(phys).and_then(|skip| base.checked_add(skip))
                    else {
                        continue;
                    };
                    if va < end {
                        assert!(pages[&va].1 == bytes.as_slice(), "{name} {va:#x}");
                        checked += 1;
                    }
                }
                // Unmapped pages are not in the core: every address translates to its page.
                for (va, (_, bytes)) in &pages {
                    let pa = dump.translate(VirtAddr(*va)).unwrap();
                    assert!(*bytes == oracle.pages[&pa.0].as_slice(), "{name} {va:#x}");
                }
                let again = open(&core);
                assert!(again.envelope().is_embedded());
                assert_eq!(
                    again.envelope().known_len(),
                    Some(built.payload.len() as u64)
                );
                let mut back = Vec::new();
                convert(&again, &plain(), &mut back, &NoProgress).unwrap();
                assert!(back == built.payload, "{name}");
            }
        }
    }
    assert!(checked > 5_000, "{checked}");
}

#[test]
fn full_dump_from_a_minidump_has_its_pages_and_holes_elsewhere() {
    for kind in kinds() {
        for seed in 1..=SEEDS {
            let built = mkdump::build_all(&machine(&kind, seed)).unwrap();
            let oracle = built.oracle.as_ref().unwrap();
            let name = format!("{} v{} seed {seed}", kind.architecture, kind.version);
            let dump = open(&built.bytes);
            let mut out = Vec::new();
            let narrow = matches!(
                kind.architecture,
                "i386" | "i386pae" | "arm" | "mips" | "mipsel"
            );
            let highest = oracle.pages.keys().last().copied().unwrap_or(0);
            let written = to_full(&dump, &plain(), &mut out, &NoProgress);
            if narrow && highest >= 0xffff_f000 {
                assert!(written.is_err(), "{name}");
                continue;
            }
            written.unwrap();
            let full = open_full(&out);
            assert_eq!(full.arch(), dump.header().arch);
            assert_eq!(full.head().class.word, if narrow { 4 } else { 8 }, "{name}");
            // It contains the minidump, and virtual addresses translate as before.
            let minidump = full.minidump().expect(&name);
            let mut back = vec![0; built.payload.len()];
            minidump.payload().read_exact_at(&mut back, 0).unwrap();
            assert!(back == built.payload, "{name}");
            for mapped in &oracle.mapped {
                let found = full.translate(VirtAddr(mapped.va)).unwrap();
                assert_eq!(found.0, mapped.pa, "{name} {:#x}", mapped.va);
            }
            assert!(
                full.envelope().warnings().is_empty(),
                "{name}: {:?}",
                full.envelope().warnings()
            );
            let mut bytes = vec![0; oracle.page_size as usize];
            for (pa, page) in &oracle.pages {
                full.read_phys(PhysAddr(*pa), &mut bytes).unwrap();
                assert!(bytes == *page, "{name} {pa:#x}");
                for near in [pa.wrapping_sub(1), pa + oracle.page_size] {
                    let there = oracle
                        .pages
                        .contains_key(&(near / oracle.page_size * oracle.page_size));
                    let read = full.read_phys(PhysAddr(near), &mut [0]);
                    assert_eq!(read.is_ok(), there, "{name} {near:#x}");
                }
            }
        }
    }
}

#[test]
fn full_dumps_are_read_in_every_container_and_codec() {
    for arch in [
        "amd64",
        "arm64",
        "riscv64",
        "i386",
        "arm",
        "powerpc64",
        "mips",
        "mips64",
    ] {
        let text = format!(
            "fulldump {arch}\navail 0x1000 0x9000\navail 0x200000 0x20a000\npage 0x1000 own\n\
             pages 0x200000 4 seed 1\n"
        );
        let built = mkdump::build_all(&text).unwrap();
        let full = open_full(&built.bytes);
        let ranges: Vec<_> = full
            .ranges()
            .iter()
            .map(|r| (r.start.0, r.end().0))
            .collect();
        assert_eq!(ranges, [(0x1000, 0x9000), (0x20_0000, 0x20_a000)], "{arch}");
        // The payload ends with the contents of the ranges.
        let data = built.payload.len() - (0x8000 + 0xa000);
        let mut bytes = vec![0; 0xa000];
        full.read_phys(PhysAddr(0x20_0000), &mut bytes).unwrap();
        assert!(bytes == built.payload[data + 0x8000..], "{arch}");
        for hole in [0, 0xfff, 0x9000, 0x1f_ffff, 0x20_a000] {
            assert!(
                full.read_phys(PhysAddr(hole), &mut [0]).is_err(),
                "{arch} {hole:#x}"
            );
        }
        assert_eq!(full.delta().is_some(), arch == "arm");
        for container in CONTAINERS {
            for codec in CODECS {
                let mut out = Vec::new();
                let to = target(container, codec, FRAME);
                convert_full(&full, &to, &mut out, &NoProgress).unwrap();
                let again = open_full(&out);
                assert_eq!(
                    (again.envelope().container(), again.envelope().codec()),
                    (container, codec)
                );
                let mut back = vec![0; built.payload.len() + 1];
                let got = again.payload().read_full_at(&mut back, 0).unwrap();
                back.truncate(got);
                assert!(back == built.payload, "{arch} {container} {codec}");
                assert!(
                    again.envelope().warnings().is_empty(),
                    "{:?}",
                    again.envelope().warnings()
                );
            }
        }
    }
}

#[test]
fn compressed_dump_exports_the_same_full_dump_and_core_as_its_payload() {
    let text = format!(
        "{}container saved\ncompress zstd\n",
        machine(&kinds()[0], 5)
    );
    let built = mkdump::build_all(&text).unwrap();
    let (compressed, plain_dump) = (open(&built.bytes), open(&built.payload));
    let full = |dump: &Dump| {
        let mut out = Vec::new();
        to_full(dump, &plain(), &mut out, &NoProgress).unwrap();
        out
    };
    assert!(full(&compressed) == full(&plain_dump));
    let core = |dump: &Dump| core_of(dump, NoteStyle::FreeBsd);
    assert!(core(&compressed) == core(&plain_dump));
}

#[test]
fn core_contains_the_kerneldumpheader_of_its_dump() {
    let text = format!("{}container live\n", machine(&kinds()[0], 2));
    let dump = open(&mkdump::build(&text).unwrap());
    let again = open(&core_of(&dump, NoteStyle::FreeBsd));
    assert_eq!(*again.envelope().header_origin(), HeaderOrigin::ElfNote);
    let strings = |dump: &Dump| {
        let header = dump.envelope().kerneldumpheader().unwrap();
        (
            header.hostname.clone(),
            header.versionstring.clone(),
            header.panicstring.clone(),
            header.dumptime,
        )
    };
    assert_eq!(strings(&again), strings(&dump));
}

#[test]
fn reading_randomly_damaged_cores_does_not_panic() {
    let dump = open(&mkdump::build(&machine(&kinds()[0], 1)).unwrap());
    let mut full = Vec::new();
    to_full(&dump, &plain(), &mut full, &NoProgress).unwrap();
    let core = core_of(&dump, NoteStyle::FreeBsd);
    let (mut opened, mut refused) = (0, 0);
    for whole in [full, core] {
        for seed in 1..=400_u64 {
            let mut random = Random::new(seed);
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                // Headers and notes are at the start.
                let at = random.index(600);
                bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
            }
            if random.one_in(8) {
                bytes.truncate(random.index(4096));
            }
            let answer = AnyDump::from_source(Arc::new(bytes.clone()), &OpenOptions::default());
            match answer {
                Ok(AnyDump::Full(dump)) => {
                    for range in dump.ranges().iter().take(4) {
                        let _ = dump.read_phys(range.start, &mut [0; 100]);
                    }
                    let _ = convert_full(&dump, &plain(), &mut std::io::sink(), &NoProgress);
                    opened += 1;
                }
                Ok(AnyDump::Mini(dump)) => {
                    let _ = convert(&dump, &plain(), &mut std::io::sink(), &NoProgress);
                    opened += 1;
                }
                Err(_) => refused += 1,
            }
            if let Ok(core) = ElfCore::parse(Arc::new(bytes)) {
                let _ = core.notes(&mut |_| ControlFlow::Continue(()));
                let _ = core.segments(1 << 16);
            }
        }
    }
    assert!(
        opened > 50 && refused > 50,
        "{opened} opened, {refused} refused"
    );
}
