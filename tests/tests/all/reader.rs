//! The reader, checked against the independent builder.

use std::collections::BTreeMap;

use livecore_minidump::RingOrigin;
use livecore_minidump::{
    Dump, Error, KernelDumpHeader, KernelMemory, MessageBuffer, OpenOptions, PhysAddr, ReadError,
    VirtAddr,
};
use livecore_tests::corpus::{Recipe, recipes};
use livecore_tests::expect::Verdict;
use livecore_tests::machines::{self, machine};
use livecore_tests::mkdump::{self, Built, Oracle};

use crate::dumps::{open, try_open};

/// Whether the recipe is not a full dump, which `Dump` does not open.
fn is_supported(recipe: &Recipe) -> bool {
    !recipe.text.contains("fulldump") && !recipe.text.contains("textdump")
}

/// Recipes with a damaged bitmap, in which the offsets of pages are unknown.
const SHIFTED: &[&str] = &["bitmap-promises-more-pages", "bitmap-lacks-bits"];

fn build(recipe: &Recipe) -> Built {
    mkdump::build_all(&recipe.text).unwrap_or_else(|error| panic!("{}: {error}", recipe.name))
}

fn verdict(recipe: &Recipe) -> Verdict {
    recipe.expectation.as_ref().unwrap().verdict
}

/// Minidumps that the reader opens, by name of the recipe.
fn readable() -> Vec<(String, Built)> {
    let wanted = |r: &Recipe| {
        let verdict = verdict(r);
        is_supported(r)
            && matches!(verdict, Verdict::Sound | Verdict::Warning)
            && !SHIFTED.contains(&r.name.as_str())
    };
    let all = recipes().unwrap();
    let found: Vec<_> = all
        .iter()
        .filter(|r| wanted(r))
        .map(|r| (r.name.clone(), build(r)))
        .collect();
    assert!(found.len() > 60, "only {} recipes", found.len());
    found
}

/// Dumps of random machines.
fn random() -> Vec<(String, Built)> {
    let mut found = Vec::new();
    for kind in machines::kinds() {
        for seed in 0..6 {
            let text = machine(&kind, seed);
            let name = format!("{} version {} seed {seed}", kind.architecture, kind.version);
            found.push((name, mkdump::build_all(&text).unwrap()));
        }
    }
    found
}

fn read_page(dump: &Dump, pa: u64, size: u64) -> Result<Vec<u8>, ReadError> {
    let mut page = vec![0xcc; size as usize];
    dump.read_phys(PhysAddr(pa), &mut page).map(|()| page)
}

/// Asserts that every saved page equals the original (or is beyond the end of the file, unless
/// `whole`), and that other pages of the machine and next to its ranges are holes.
fn check_physical(name: &str, dump: &Dump, oracle: &Oracle, whole: bool) {
    let size = oracle.page_size;
    for (pa, content) in &oracle.pages {
        match read_page(dump, *pa, size) {
            Ok(page) => assert!(page == *content, "{name}: page {pa:#x} differs"),
            Err(ReadError::BeyondEnd { .. } | ReadError::Io { .. }) if !whole => {}
            Err(error) => panic!("{name}: page {pa:#x}: {error}"),
        }
    }
    for (start, end) in &oracle.avail {
        let inside = (start / size..end.div_ceil(size))
            .take(600)
            .map(|frame| frame * size);
        let around = [start.wrapping_sub(size), end.next_multiple_of(size)];
        for pa in inside
            .chain(around)
            .filter(|pa| !oracle.pages.contains_key(pa))
        {
            let answer = read_page(dump, pa, size);
            assert!(
                matches!(answer, Err(ReadError::Hole { .. })),
                "{name}: {pa:#x} {answer:?}"
            );
        }
    }
}

/// Asserts that every mapped page translates to its frame and reads as it, and that addresses next to
/// the mappings are not mapped.
fn check_virtual(name: &str, dump: &Dump, oracle: &Oracle) {
    let size = oracle.page_size;
    let mapped: BTreeMap<u64, u64> = oracle
        .mapped
        .iter()
        .map(|page| (page.va, page.pa))
        .collect();
    // Skip pages of large mappings that are far from the machine's memory.
    let few = mapped
        .iter()
        .filter(|(_, pa)| near(oracle, **pa))
        .take(3000);
    for (va, pa) in few {
        let found = dump.translate(VirtAddr(va + 0x123));
        match found {
            Ok(found) => assert_eq!(found, PhysAddr(pa + 0x123), "{name}: {va:#x}"),
            Err(error) => panic!("{name}: {va:#x}: {error}"),
        }
        let mut page = vec![0; size as usize];
        match (
            dump.read_virt(VirtAddr(*va), &mut page),
            oracle.pages.get(pa),
        ) {
            (Ok(()), Some(content)) => assert!(page == *content, "{name}: {va:#x} differs"),
            (Err(ReadError::Hole { .. }), None) => {}
            (answer, content) => {
                panic!("{name}: {va:#x}: {answer:?}, saved: {}", content.is_some())
            }
        }
    }
    let (base, end, phys) = oracle.dmap;
    let direct = |pa: u64| pa >= phys && pa - phys < end - base;
    for (pa, content) in oracle.pages.iter().filter(|(pa, _)| direct(**pa)) {
        let va = base + (pa - phys);
        let mut page = vec![0; size as usize];
        dump.read_virt(VirtAddr(va), &mut page)
            .unwrap_or_else(|e| panic!("{name}: {va:#x} {e}"));
        assert!(page == *content, "{name}: direct map {va:#x} differs");
    }
    let adjacent = mapped
        .keys()
        .flat_map(|va| [va.wrapping_add(size), va.wrapping_sub(size)]);
    let far = [
        0,
        size,
        oracle.kernbase.wrapping_sub(size),
        base.wrapping_sub(1),
        end,
        u64::MAX,
    ];
    for va in adjacent.chain(far) {
        let page = va / size * size;
        if mapped.contains_key(&page) || (base..end).contains(&va) || is_extra(oracle, name, va) {
            continue;
        }
        let answer = dump.translate(VirtAddr(va));
        assert!(
            matches!(answer, Err(ReadError::NotMapped { .. })),
            "{name}: {va:#x} is not mapped: {answer:?}"
        );
    }
}

/// Whether `va` is translated by mips hardware without page tables, or mapped by a raw entry.
fn is_extra(oracle: &Oracle, name: &str, va: u64) -> bool {
    match oracle.architecture {
        "mips" | "mipsel" => (0x8000_0000..0xc000_0000).contains(&va),
        "mips64" | "mips64el" => {
            (0x8000_0000_0000_0000..0xc000_0000_0000_0000).contains(&va)
                || (0xffff_ffff_8000_0000..0xffff_ffff_c000_0000).contains(&va)
        }
        _ => name == HIGH_BITS && va == HIGH_BITS_VA,
    }
}

const HIGH_BITS: &str = "riscv64-v2-entries-with-high-bits";
const HIGH_BITS_VA: u64 = 0xffff_ffc0_0020_6000;

/// libkvm takes these bits, Svpbmt's memory type, as part of the frame number.
#[test]
fn extension_bits_of_a_riscv_entry_are_not_part_of_its_frame() {
    let recipes = recipes().unwrap();
    let recipe = recipes.iter().find(|r| r.name == HIGH_BITS).unwrap();
    let dump = open(&build(recipe).bytes);
    let found = dump.translate(VirtAddr(HIGH_BITS_VA + 5)).unwrap();
    assert_eq!(found, PhysAddr(0x8020_1005));
}

fn near(oracle: &Oracle, pa: u64) -> bool {
    let size = oracle.page_size;
    oracle.pages.contains_key(&pa)
        || oracle
            .avail
            .iter()
            .any(|(s, e)| pa + 2 * size >= *s && pa <= e.saturating_add(2 * size))
        || pa.is_multiple_of(64 * size)
}

#[test]
fn section_offsets_equal_those_of_the_recipe() {
    for (name, built) in readable().into_iter().chain(random()) {
        let dump = try_open(&built.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let oracle = built.oracle.unwrap();
        let layout = dump.layout();
        let start = |section: &str| oracle.section(section).unwrap().0;
        assert_eq!(layout.page_size(), oracle.page_size, "{name}");
        assert_eq!(layout.msgbuf_offset(), start("msgbuf"), "{name}");
        assert_eq!(layout.dump_avail_offset(), start("dump_avail"), "{name}");
        assert_eq!(layout.bitmap_offset(), start("bitmap"), "{name}");
        assert_eq!(layout.pmap_offset(), start("pmap"), "{name}");
        assert_eq!(layout.data_offset(), start("data"), "{name}");
        assert_eq!(dump.bitmap().count(), oracle.pages.len() as u64, "{name}");
        let (at, len) = oracle.section("msgbuf").unwrap();
        let section = dump.read_msgbuf_section().unwrap();
        assert!(
            section == built.payload[at as usize..(at + len) as usize],
            "{name}"
        );
    }
}

#[test]
fn saved_pages_of_usable_recipes_are_read_by_physical_address() {
    for (name, built) in readable() {
        let dump = try_open(&built.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let whole = !name.starts_with("truncated") && !name.contains("truncated-inside");
        check_physical(&name, &dump, &built.oracle.unwrap(), whole);
    }
}

#[test]
fn only_mapped_addresses_of_sound_recipes_translate() {
    for recipe in recipes().unwrap() {
        let sound = verdict(&recipe) == Verdict::Sound && is_supported(&recipe);
        if !sound {
            continue;
        }
        let built = build(&recipe);
        let dump =
            try_open(&built.bytes).unwrap_or_else(|error| panic!("{}: {error}", recipe.name));
        assert!(
            dump.envelope().warnings().is_empty(),
            "{}: {:?}",
            recipe.name,
            dump.envelope().warnings()
        );
        check_virtual(&recipe.name, &dump, &built.oracle.unwrap());
    }
}

#[test]
fn random_machines_of_every_architecture_are_read_back() {
    for (name, built) in random() {
        let dump = try_open(&built.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let oracle = built.oracle.unwrap();
        check_physical(&name, &dump, &oracle, true);
        check_virtual(&name, &dump, &oracle);
    }
}

#[test]
fn virtual_read_crosses_pages_through_the_kernel_map() {
    let built = mkdump::build_all(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         avail 0x1000 0x9000
         map 0xffffffff80000000 0x5000 4K rw
         map 0xffffffff80001000 0x2000 4K rw
         page 0x5000 fill 0x55
         page 0x2000 fill 0x22",
    )
    .unwrap();
    let dump = open(&built.bytes);
    let mut buf = [0; 4];
    dump.read_virt(VirtAddr(0xffff_ffff_8000_0ffe), &mut buf)
        .unwrap();
    assert_eq!(buf, [0x55, 0x55, 0x22, 0x22]);
    let answer = dump.read_virt(VirtAddr(0xffff_ffff_8000_1ffe), &mut buf);
    assert!(
        matches!(answer, Err(ReadError::NotMapped { .. })),
        "{answer:?}"
    );
}

#[test]
fn opening_a_recipe_fails_with_the_kind_of_error_of_its_verdict() {
    for recipe in recipes().unwrap() {
        let (bytes, name) = (build(&recipe).bytes, &recipe.name);
        match (verdict(&recipe), try_open(&bytes)) {
            (_, Err(Error::Io { .. })) => panic!("{name}: I/O error"),
            (Verdict::Unsupported, Err(Error::NotADump { .. } | Error::Unsupported { .. })) => {}
            (Verdict::Text, Err(Error::NotADump { .. } | Error::Unsupported { .. })) => {}
            (Verdict::Text, answer) => panic!("{name}: {answer:?}"),
            (Verdict::Encrypted, Err(Error::Encrypted { .. })) => {}
            (Verdict::Encrypted, answer) => panic!("{name}: {answer:?}"),
            (Verdict::Unsupported, answer) => panic!("{name}: {answer:?}"),
            (Verdict::Broken, Err(Error::NotADump { .. } | Error::Unsupported { .. })) => {
                assert!(!is_supported(&recipe), "{name}: error is not Broken");
            }
            (Verdict::Sound | Verdict::Warning, Err(error)) => {
                assert!(!is_supported(&recipe), "{name}: {error}");
            }
            (_, Ok(_)) => assert!(is_supported(&recipe), "{name}: opens"),
            (Verdict::Broken, Err(_)) => {}
        }
    }
}

#[test]
fn broken_dump_fails_to_open_or_warns_or_fails_to_read() {
    let mut silent = Vec::new();
    for recipe in recipes().unwrap() {
        // The dump is sound and only its info file is wrong, which is not read here.
        let is_info = recipe.name.starts_with("saved-info");
        if verdict(&recipe) != Verdict::Broken || !is_supported(&recipe) || is_info {
            continue;
        }
        let built = build(&recipe);
        let Ok(dump) = try_open(&built.bytes) else {
            continue;
        };
        let oracle = built.oracle.unwrap();
        let pages = oracle
            .pages
            .keys()
            .map(|pa| read_page(&dump, *pa, oracle.page_size));
        let failures = pages.filter(Result::is_err).count();
        let reported =
            failures > 0 || !dump.envelope().warnings().is_empty() || dump.shortness().is_err();
        if !reported {
            silent.push(recipe.name);
        }
    }
    assert!(
        silent.is_empty(),
        "broken dumps that open and read without a warning: {silent:?}"
    );
}

#[test]
fn readable_pages_of_damaged_dumps_equal_the_original() {
    for recipe in recipes().unwrap() {
        let name = recipe.name.as_str();
        let known = !SHIFTED.contains(&name);
        let built = build(&recipe);
        let (Ok(dump), Some(oracle), true) = (try_open(&built.bytes), built.oracle, known) else {
            continue;
        };
        for (pa, content) in &oracle.pages {
            if let Ok(page) = read_page(&dump, *pa, oracle.page_size) {
                assert!(page == *content, "{name}: page {pa:#x} differs");
            }
        }
    }
}

#[test]
fn all_versions_of_the_kerneldumpheader_are_read() {
    for version in 1..=4 {
        let text = format!(
            "minidump amd64 2
             kernbase 0xffffffff80000000
             kernend 0xffffffffc0000000
             avail 0x1000 0x9000
             page 0x1000 own
             container live
             kdh version {version}
             set kdh.hostname = \"host number {version}\"
             set kdh.panicstring = \"page fault\"
             set kdh.dumptime = 0x123456789a"
        );
        let built = mkdump::build_all(&text).unwrap();
        let dump = open(&built.bytes);
        let header = dump.envelope().kerneldumpheader().unwrap();
        let length = built.payload.len() as u64;
        assert_eq!(
            (header.version, header.dumplength, header.dumpextent),
            (version, length, length)
        );
        assert_eq!(header.hostname, format!("host number {version}").as_bytes());
        assert_eq!(header.panicstring, b"page fault");
        assert_eq!(header.dumptime, 0x12_3456_789a);
        assert_eq!((header.blocksize, header.architectureversion), (4096, 2));
        assert_eq!(header.architecture, b"amd64");
        assert!(header.versionstring.starts_with(b"FreeBSD 14.1-RELEASE"));
        assert!(
            header.parity_ok && dump.envelope().warnings().is_empty(),
            "{:?}",
            dump.envelope().warnings()
        );
    }
}

/// Writes the dump and its `info.3` to a temporary folder and opens the dump.
fn saved(text: &str, name: &str) -> (tempfile::TempDir, Dump) {
    let built = mkdump::build_all(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, &built.bytes).unwrap();
    std::fs::write(folder.path().join("info.3"), built.info.unwrap()).unwrap();
    let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
    (folder, dump)
}

#[test]
fn header_of_a_saved_dump_is_read_from_its_info_file() {
    for (codec, suffix) in [("none", ""), ("gzip", ".gz"), ("zstd", ".zst")] {
        for (ctime, device) in [("", "/dev/mem"), ("ctime", "/dev/ada0p2")] {
            let text = format!(
                "minidump amd64 3
                 kernbase 0xffffffff80000000
                 kernend 0xffffffffc0000000
                 avail 0x1000 0x9000
                 page 0x1000 own
                 compress {codec}
                 set kdh.hostname = \"saved.example\"
                 set kdh.versionstring = \"FreeBSD 10.4-RELEASE\\n    root@builder\\n\"
                 set kdh.panicstring = \"a: b\"
                 info \"{device}\" bounds 3 status good {ctime}"
            );
            let (_folder, dump) = saved(&text, &format!("vmcore.3{suffix}"));
            assert!(
                dump.envelope().warnings().is_empty(),
                "{codec}: {:?}",
                dump.envelope().warnings()
            );
            let info = dump.envelope().info().unwrap();
            assert_eq!((info.device.as_str(), info.bounds), (device, Some(3)));
            assert_eq!(
                (info.status.as_str(), info.panic_string.as_str()),
                ("good", "a: b")
            );
            assert_eq!(info.dump_length, dump.envelope().file_len());
            let header = dump.envelope().kerneldumpheader().unwrap();
            assert_eq!(header.hostname, b"saved.example");
            assert_eq!(
                header.versionstring,
                b"FreeBSD 10.4-RELEASE\n    root@builder\n"
            );
            assert_eq!(header.dumplength, dump.envelope().file_len());
            // FreeBSD 12.1 prints the time without its zone.
            let time = if ctime.is_empty() {
                1_700_000_000
            } else {
                header.dumptime
            };
            assert_eq!(header.dumptime, time, "{codec} {ctime}");
        }
    }
}

/// Before version 2, 64-bit mips kernels write bitmap words of 32 bits.
#[test]
fn mips64_structures_are_64_bit_even_if_bitmap_words_are_32_bit() {
    for (architecture, name) in [
        ("mips64", "mips64"),
        ("mips64el", "mips64el"),
        ("mips", "mips"),
        ("mipsel", "mipsel"),
    ] {
        for version in [1, 2] {
            let text = format!(
                "minidump {architecture} {version}\navail 0x0 0x40000\npage 0x21000 own\n\
                 msgbuf text \"one\\ntwo\\n\"\n"
            );
            let dump = open(&mkdump::build(&text).unwrap());
            let buffer = MessageBuffer::of(&dump, None).unwrap();
            assert_eq!(buffer.origin(), RingOrigin::Trailing, "{name} {version}");
            assert_eq!(buffer.checksum_ok(), Some(true), "{name} {version}");
            assert_eq!(dump.bitmap().iter().collect::<Vec<_>>(), [0x21]);
            let header = KernelDumpHeader::from_payload(dump.header());
            assert_eq!(header.architecture, name.as_bytes());
        }
    }
}
