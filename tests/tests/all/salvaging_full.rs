//! Salvage of full dumps and of cores that contain a minidump. Each page that is kept equals the page
//! that the independent builder wrote, and every other page is a hole.

use std::sync::Arc;

use livecore_compress::{Codec, NoProgress, ReadAt};
use livecore_minidump::convert::{convert_full, to_elf, to_full};
use livecore_minidump::elf::export::{ExportOptions, export};
use livecore_minidump::salvage::{Options, Report};
use livecore_minidump::{AnyDump, Container, Error, KernelMemory, OpenOptions, PhysAddr};
use livecore_tests::mkdump::{self, Built};
use livecore_tests::random::Random;
use livecore_verify::Verdict;

use crate::dumps::{CODECS, CONTAINERS, open, open_full, overlap, target};

/// Start and end of two ranges that are not adjacent.
const RANGES: [(u64, u64); 2] = [(0x1000, 0x4_1000), (0x20_0000, 0x28_0000)];
const FRAME: u32 = 16384;

fn build() -> Built {
    let text = "fulldump amd64\navail 0x1000 0x41000\navail 0x200000 0x280000\n\
                pages 0x1000 64 own\npages 0x200000 60 seed 7\n";
    mkdump::build_all(text).unwrap()
}

fn stored(built: &Built, container: Container, codec: Codec) -> Vec<u8> {
    let mut out = Vec::new();
    let to = target(container, codec, FRAME);
    convert_full(&open_full(&built.payload), &to, &mut out, &NoProgress).unwrap();
    out
}

fn salvage(bytes: &[u8]) -> Result<(Report, Vec<u8>), Error> {
    crate::dumps::salvage(bytes, &Options::default())
}

/// The page at `pa` as the builder wrote it.
fn original(built: &Built, pa: u64) -> Option<&[u8]> {
    let data = built.payload.len() as u64 - RANGES.iter().map(|r| r.1 - r.0).sum::<u64>();
    let mut offset = data;
    for (start, end) in RANGES {
        if (start..end).contains(&pa) {
            let at = (offset + pa - start) as usize;
            return Some(&built.payload[at..at + 4096]);
        }
        offset += end - start;
    }
    None
}

/// Asserts that the pages of a salvaged dump equal the original pages and that it verifies. Returns
/// the number of pages.
#[track_caller]
fn assert_contents(built: &Built, report: &Report, out: &[u8], what: &str) -> u64 {
    let dump = open_full(out);
    let mut kept = 0;
    for (start, end) in RANGES {
        for pa in (start..end).step_by(4096) {
            let mut page = vec![0; 4096];
            let found = dump.read_phys(PhysAddr(pa), &mut page);
            let mut ranges = report.pages.ranges.iter();
            let lost = ranges.any(|range| range.contains(&PhysAddr(pa)));
            assert_eq!(found.is_err(), lost, "{what}: {pa:#x}");
            if found.is_ok() {
                if page != original(built, pa).unwrap() {
                    let (offset, _) = dump.extent_of(PhysAddr(pa)).unwrap();
                    let unproven = &dump.envelope().seal().unwrap().unproven_ranges;
                    assert!(overlap(unproven, offset, 4096), "{what}: {pa:#x}");
                }
                kept += 1;
            }
        }
    }
    assert_eq!(report.kind, "full");
    assert_eq!(
        (report.pages.kept, report.pages.promised),
        (kept, 192),
        "{what}"
    );
    assert_eq!(report.pages.lost, 192 - kept, "{what}");
    let options = livecore_verify::Options::default();
    let report = livecore_verify::verify(Arc::new(out.to_vec()), &options, &NoProgress);
    let sound = matches!(report.verdict, Verdict::Sound | Verdict::Warnings);
    assert!(sound, "{what}: {:?}", report.findings);
    kept
}

#[test]
fn truncated_full_dump_keeps_the_pages_before_the_end() {
    let built = build();
    for container in CONTAINERS {
        for codec in CODECS {
            let bytes = stored(&built, container, codec);
            let what = format!("{container} {codec}");
            let (report, out) = salvage(&bytes).unwrap();
            assert!(report.is_whole(), "{what}: {report:?}");
            assert_eq!(assert_contents(&built, &report, &out, &what), 192);
            let mut before = 0;
            for part in 1..=12 {
                let cut = bytes.len() * part / 13;
                let what = format!("{what} cut at {cut:#x}");
                let Ok((report, out)) = salvage(&bytes[..cut]) else {
                    // A single stream gives nothing until enough of it is present.
                    assert!(before == 0, "{what}");
                    continue;
                };
                assert!(!report.is_whole(), "{what}");
                let kept = assert_contents(&built, &report, &out, &what);
                assert!(kept >= before, "{what}");
                before = kept;
            }
            assert!(before > 60, "{what}: {before} pages");
        }
    }
}

#[test]
fn damaged_frame_of_a_full_dump_loses_only_its_own_pages() {
    let built = build();
    for codec in CODECS {
        let bytes = stored(&built, Container::Sealed, codec);
        let (mut lost, mut tried) = (0, 0);
        for part in 2..12 {
            let mut damaged = bytes.clone();
            let at = damaged.len() * part / 13;
            damaged[at] ^= 0x55;
            let what = format!("{codec} {at:#x}");
            let (report, out) = salvage(&damaged).unwrap();
            let kept = assert_contents(&built, &report, &out, &what);
            // A frame has the size of four pages and can begin inside a page.
            let proven = kept - report.pages.unproven;
            assert!(192 - proven <= 5, "{what}: {proven} of {kept}");
            lost += 192 - proven;
            tried += 1;
        }
        assert!(lost > 0 && tried == 10, "{codec}: {lost}");
    }
}

#[test]
fn full_dump_without_usable_program_headers_is_broken() {
    let built = build();
    let error = salvage(&built.payload[..100]).unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
}

const MACHINE: &str = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9f000
avail 0x200000 0xa00000
page 0x1000 text \"the first page of the machine\"
pages 0x3000 60 seed 1
pages 0x200000 60 own
map 0xffffffff80000000 0x800000 4K rw times 64
table 0xffffffff80000000 0x3000
";

#[test]
fn files_that_contain_a_minidump_are_salvaged_as_minidumps() {
    let built = mkdump::build_all(MACHINE).unwrap();
    let pages = &built.oracle.as_ref().unwrap().pages;
    let dump = open(&built.bytes);
    let to = target(Container::Saved, Codec::None, FRAME);
    let (mut full, mut core) = (Vec::new(), Vec::new());
    to_full(&dump, &to, &mut full, &NoProgress).unwrap();
    let planned = export(&dump, &ExportOptions::default()).unwrap();
    to_elf(&dump, &planned, &to, &mut core, &NoProgress).unwrap();
    for (name, bytes) in [("full", full), ("core", core)] {
        for less in [0, 1, 5 * 4096, 30 * 4096 + 7] {
            let what = format!("{name} less {less}");
            let (report, out) = salvage(&bytes[..bytes.len() - less]).unwrap();
            assert_eq!(report.kind, "minidump", "{what}");
            let lost = (less as u64).div_ceil(4096);
            assert_eq!(report.pages.lost, lost, "{what}");
            let again = open(&out);
            assert_eq!(again.bitmap().count() as usize, pages.len() - lost as usize);
            for (pa, page) in pages.iter().take(pages.len() - lost as usize) {
                let mut found = vec![0; 4096];
                again.read_phys(PhysAddr(*pa), &mut found).unwrap();
                assert!(found == *page, "{what} {pa:#x}");
            }
        }
        // Without the ELF headers the minidump is found by its own header.
        let headless = &bytes[4096..];
        let found = salvage(headless).map(|(report, _)| report.pages.lost);
        assert!(matches!(found, Ok(0)), "{name}: {found:?}");
    }
}

#[test]
fn salvaging_randomly_damaged_full_dumps_does_not_panic() {
    let built = build();
    let (mut kept, mut refused) = (0, 0);
    for container in [Container::Saved, Container::Sealed] {
        for codec in [Codec::None, Codec::Zstd] {
            let whole = stored(&built, container, codec);
            for seed in 1..=60_u64 {
                let mut random = Random::new(seed);
                let mut bytes = whole.clone();
                for _ in 0..=random.below(3) {
                    // Half of the changes are in the headers.
                    let end = random.pick(&[400, bytes.len()]);
                    let at = random.index(end);
                    bytes[at] = random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
                }
                match salvage(&bytes) {
                    Ok((_, out)) => {
                        let opened = AnyDump::from_source(Arc::new(out), &OpenOptions::default());
                        let dump = opened.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                        assert!(dump.payload().size().is_ok());
                        kept += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(kept > 50 && refused > 5, "{kept} kept, {refused} refused");
}
