//! Salvage of dumps in every codec and container with damage at many offsets. Each page that is kept
//! equals the page that the independent builder wrote, and every other page is a hole.

use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt, Stream};
use livecore_minidump::salvage::{HeaderFrom, Options, Report};
use livecore_minidump::{Container, Dump, Error, KernelMemory, PhysAddr, VirtAddr};
use livecore_tests::corpus::recipes;
use livecore_tests::expect::Verdict as Expected;
use livecore_tests::mkdump::{self, Built};
use livecore_tests::random::Random;
use livecore_verify::compare::Answer;
use livecore_verify::{Severity, Verdict};

use crate::dumps::{CODECS, CONTAINERS, compared, converted, open, overlap, salvage, target};

const FRAME: u32 = 16384;

/// Two ranges of memory with 190 pages, some compressible and some not.
const MACHINE: &str = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9f000
avail 0x200000 0xa00000
msgbuf text \"---<<BOOT>>---\\n\"
msgbuf text \"<118>FreeBSD 14.1-RELEASE GENERIC\\n\"
page 0x1000 text \"the first page of the machine\"
pages 0x3000 60 seed 1
pages 0x200000 60 own
pages 0x300000 70 seed 100
map 0xffffffff80000000 0x800000 4K rw times 64
table 0xffffffff80000000 0x3000
";

fn build(more: &str) -> Built {
    mkdump::build_all(&format!("{MACHINE}{more}")).unwrap()
}

fn seal(bytes: &[u8], codec: Codec, frame_size: u32) -> Vec<u8> {
    converted(bytes, &target(Container::Sealed, codec, frame_size))
}

/// Like [`seal`], but without a second copy of the important frames.
fn seal_without_copy(bytes: &[u8], codec: Codec, frame_size: u32) -> Vec<u8> {
    let whole = Arc::new(seal(bytes, codec, frame_size));
    let stream = Stream::from_source(whole, &livecore_compress::OpenOptions::new()).unwrap();
    let encoding = Encoding::new(codec).frame_size(frame_size);
    let mut out = Vec::new();
    let content = stream.content();
    let stored = livecore_compress::encode_at(
        &*content,
        &encoding,
        livecore_compress::Shape::Frames,
        &mut out,
        &NoProgress,
    )
    .unwrap();
    livecore_compress::write_seal(&stored, stream.attachment().unwrap(), &mut out).unwrap();
    out
}

/// Damages the start of the frame that contains the byte at `offset` of the content.
fn damage_frame(bytes: &mut [u8], offset: u64) {
    let source = Arc::new(bytes.to_vec());
    let stream = Stream::from_source(source, &livecore_compress::OpenOptions::new()).unwrap();
    let frame = stream.frames().unwrap().find(offset).unwrap();
    bytes[frame.offset as usize..][..8].fill(0x55);
}

/// Asserts that a frame with a second copy is restored without loss.
#[track_caller]
fn assert_restored(built: &Built, offset: u64) {
    let mut bytes = seal(&built.bytes, Codec::Zstd, 4096);
    damage_frame(&mut bytes, offset);
    let (report, out) = salvage(&bytes, &Options::default()).unwrap();
    assert!(!report.is_whole() && !report.has_losses(), "{report:?}");
    assert_eq!(report.pages.unproven, 0);
    assert_contents(built, &report, &out, "restored");
}

/// Asserts that the pages of a salvaged dump equal the original pages and that it verifies. Returns
/// the number of pages.
#[track_caller]
fn assert_contents(built: &Built, report: &Report, out: &[u8], what: &str) -> usize {
    let pages = &built.oracle.as_ref().unwrap().pages;
    let dump = open(out);
    let ranges = dump.dump_avail();
    let mut kept = 0;
    for bit in dump.bitmap().iter() {
        let at = ranges.addr_of(bit).unwrap();
        let original = pages
            .get(&at.0)
            .unwrap_or_else(|| panic!("{what}: {at:?} is not in the original dump"));
        let mut page = vec![0; 4096];
        dump.read_phys(at, &mut page).unwrap();
        if page != *original {
            let offset = dump.layout().page_offset(kept as u64).unwrap();
            let unproven = &dump.envelope().seal().unwrap().unproven_ranges;
            let listed = overlap(unproven, offset, 4096);
            assert!(listed, "{what}: page {:#x} differs", at.0);
        }
        kept += 1;
    }
    for at in pages.keys() {
        let hole = dump.read_phys(PhysAddr(*at), &mut [0]).is_err();
        let has = ranges
            .bit_of(PhysAddr(*at))
            .is_some_and(|bit| dump.bitmap().contains(bit));
        assert_eq!(hole, !has, "{what}: {at:#x}");
    }
    assert_eq!(report.pages.kept, kept as u64, "{what}");
    if report.pages.unknown == 0 {
        assert_eq!(report.pages.promised, pages.len() as u64, "{what}");
        assert_eq!(
            report.pages.kept + report.pages.lost,
            report.pages.promised,
            "{what}"
        );
    }
    assert_sound(report, out, what);
    kept
}

/// Rules that may warn about a dump that lost pages.
const LOSSES: &[&str] = &[
    "SEAL-SALVAGED",
    "SEAL-UNPROVEN",
    "PT-TABLE-ABSENT",
    "MSG-EMPTY",
    "PT-IMAGE-GAP",
];

#[track_caller]
fn assert_sound(report: &Report, out: &[u8], what: &str) {
    let options = livecore_verify::Options::default().depth(livecore_verify::Depth::Deep);
    let verified = livecore_verify::verify(Arc::new(out.to_vec()), &options, &NoProgress);
    let warnings: Vec<_> = verified
        .findings
        .iter()
        .filter(|f| f.rule.severity > Severity::Note)
        .map(|f| format!("{} {}", f.rule.id, f.found))
        .collect();
    let known = |id: &str| LOSSES.iter().any(|loss| id.starts_with(loss));
    assert!(warnings.iter().all(|w| known(w)), "{what}: {warnings:?}");
    let losses = warnings.iter().any(|w| w.starts_with("SEAL-SALVAGED"));
    assert_eq!(losses, report.has_losses(), "{what}: {warnings:?}");
    let verdict = if warnings.is_empty() {
        Verdict::Sound
    } else {
        Verdict::Warnings
    };
    assert_eq!(verified.verdict, verdict, "{what}");
}

/// Damages `bytes` and returns a description and the range of stored bytes that are damaged.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) -> (String, usize, usize) {
    let len = bytes.len();
    let at = random.index(len);
    let run = (1 + random.index(5000)).min(len - at);
    match random.index(5) {
        0 => {
            bytes[at] ^= 1 << random.index(8);
            (format!("a bit of byte {at:#x} flipped"), at, at + 1)
        }
        1 => {
            bytes[at..at + run].fill(0);
            (format!("{run} bytes at {at:#x} zeroed"), at, at + run)
        }
        2 => {
            bytes.truncate(at);
            (format!("cut at {at:#x}"), at, len)
        }
        3 => {
            let copy = bytes[at..at + run].to_vec();
            bytes.splice(at..at, copy);
            (format!("{run} bytes at {at:#x} duplicated"), at, at + 1)
        }
        _ => {
            bytes.drain(at..at + run);
            (format!("{run} bytes at {at:#x} removed"), at, at + run)
        }
    }
}

/// The number of frames in `from..to`, and the stored end of the bitmap's last frame.
fn frames(whole: &[u8], from: usize, to: usize, bitmap_end: u64) -> (u64, usize) {
    let source: Arc<dyn ReadAt> = Arc::new(whole.to_vec());
    let stream = Stream::from_source(source, &livecore_compress::OpenOptions::default()).unwrap();
    let table = stream.frames().unwrap();
    let all: Vec<_> = (0..table.count()).map(|n| table.get(n).unwrap()).collect();
    let end = |f: &livecore_compress::Frame| f.offset as usize + f.entry.stored_len as usize;
    let touched = all
        .iter()
        .filter(|f| (f.offset as usize) < to && end(f) > from);
    let sections = all.iter().filter(|f| f.content_offset < bitmap_end);
    (touched.count() as u64, sections.map(end).max().unwrap())
}

#[test]
fn kept_pages_equal_the_original_and_all_others_are_holes() {
    let built = build("");
    let bitmap_end = open(&built.bytes).layout().pmap_offset();
    let pages = u64::from(FRAME) / 4096;
    let seed = 20_261_123;
    let mut random = Random::new(seed);
    let mut salvaged = 0;
    for codec in CODECS {
        let whole = seal(&built.bytes, codec, FRAME);
        for i in 0..120 {
            let mut bytes = whole.clone();
            let (what, from, to) = damage(&mut random, &mut bytes);
            let what = format!("seed {seed}, {codec} {i}: {what}");
            let (touched, sections_end) = frames(&whole, from, to, bitmap_end);
            match salvage(&bytes, &Options::default()) {
                Ok((report, out)) => {
                    assert_contents(&built, &report, &out, &what);
                    // Without the index, all uncompressed frames are unproven.
                    let doubtful = codec == Codec::None && to > whole.len() / 2;
                    let least = report.pages.promised.saturating_sub(pages * (touched + 1));
                    assert!(doubtful || report.pages.kept >= least, "{what}: {report:?}");
                    salvaged += 1;
                }
                Err(error) => {
                    assert!(from < sections_end, "{what}: {error}");
                    assert!(
                        matches!(error, Error::Broken { .. } | Error::NotADump { .. }),
                        "{error}"
                    );
                }
            }
        }
    }
    assert!(salvaged > 300, "{salvaged}");
}

#[test]
fn undamaged_dumps_lose_nothing_in_any_container_and_codec() {
    for more in [
        "",
        "container live\n",
        "container live\ncompress zstd\n",
        "compress gzip\n",
        "container device\n",
        "container device\ncompress zstd\n",
    ] {
        let built = build(more);
        let (report, out) = salvage(&built.bytes, &Options::default()).unwrap();
        assert!(report.is_whole(), "{more}: {report:?}");
        let kept = assert_contents(&built, &report, &out, more);
        assert_eq!(kept, built.oracle.as_ref().unwrap().pages.len(), "{more}");
        let found = compared(&built.bytes, &out);
        assert_eq!(found.answer, Answer::Same, "{:#}", found.value());
    }
}

#[test]
fn truncated_files_keep_the_pages_before_the_end() {
    for more in [
        "container live\n",
        "",
        "compress zstd\n",
        "container live\ncompress gzip\n",
    ] {
        let built = build(more);
        let all = built.oracle.as_ref().unwrap().pages.len();
        let mut before = 0;
        for part in 1..40 {
            let cut = built.bytes.len() * part / 40;
            let what = format!("{more}cut at {cut:#x}");
            match salvage(&built.bytes[..cut], &Options::default()) {
                Ok((report, out)) => {
                    let kept = assert_contents(&built, &report, &out, &what);
                    assert!(kept >= before && kept < all, "{what}: {kept}");
                    assert_eq!(report.pages.unproven, kept as u64, "{what}");
                    before = kept;
                }
                Err(error) => assert_eq!(before, 0, "{what}: {error}"),
            }
        }
        assert!(before > all / 2, "{more}: {before} of {all}");
        let proven = Options::default().proven(true);
        assert!(salvage(&built.bytes[..built.bytes.len() * 39 / 40], &proven).is_err());
    }
}

#[test]
fn device_without_trailing_header_uses_the_leading_one() {
    for more in ["container device\n", "container device\ncompress zstd\n"] {
        let built = build(more);
        let mut bytes = built.bytes.clone();
        let len = bytes.len();
        bytes[len - 512..].fill(0);
        let (report, out) = salvage(&bytes, &Options::default()).unwrap();
        assert_eq!(
            (report.container, report.header),
            ("device", HeaderFrom::Leading)
        );
        assert_eq!(
            assert_contents(&built, &report, &out, more),
            built.oracle.as_ref().unwrap().pages.len()
        );
        let name = |dump: Dump| dump.envelope().kerneldumpheader().unwrap().hostname.clone();
        assert_eq!(name(open(&out)), name(open(&built.bytes)));
    }
    // Without both headers the payload is searched for.
    let built = build("container device\n");
    let mut bytes = built.bytes.clone();
    let magic = b"FreeBSD Kernel Dump";
    while let Some(at) = bytes.windows(magic.len()).position(|w| w == magic) {
        bytes[at] ^= 1;
    }
    let (report, out) = salvage(&bytes, &Options::default()).unwrap();
    assert_eq!(report.header, HeaderFrom::Payload);
    assert_contents(&built, &report, &out, "no headers");
}

#[test]
fn missing_or_foreign_seal_loses_the_header_but_no_page() {
    let built = build("container live\n");
    let other = build("pages 0x900000 99 seed 7\ncontainer live\n");
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = seal(&built.bytes, codec, FRAME);
        let at = |file: &[u8]| {
            let stream = Stream::from_source(
                Arc::new(file.to_vec()),
                &livecore_compress::OpenOptions::default(),
            );
            usize::try_from(stream.unwrap().data_len().unwrap()).unwrap()
        };
        let foreign = seal(&other.bytes, codec, FRAME);
        let mut spliced = whole[..at(&whole)].to_vec();
        spliced.extend_from_slice(&foreign[at(&foreign)..]);
        let mut zeroed = whole.clone();
        zeroed[at(&whole)..].fill(0);
        for (what, bytes) in [
            ("cut", whole[..at(&whole)].to_vec()),
            ("truncated", whole[..at(&whole) + 40].to_vec()),
            ("zeroed", zeroed),
            ("of another file", spliced),
        ] {
            let what = format!("{codec}, seal {what}");
            let (report, out) = salvage(&bytes, &Options::default()).unwrap();
            assert_eq!(report.header, HeaderFrom::Payload, "{what}");
            assert_eq!((report.pages.lost, report.pages.unknown), (0, 0), "{what}");
            assert_contents(&built, &report, &out, &what);
        }
    }
}

/// The bitmap of 65,536 pages has two pages, each in its own frame.
#[test]
fn losing_part_of_the_bitmap_does_not_move_the_other_pages() {
    let text = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x0 0x10000000
msgbuf text \"---<<BOOT>>---\\n\"
pages 0x3000 20 seed 1
pages 0x7fff000 3 seed 40
pages 0xfff0000 5 seed 50
";
    let built = mkdump::build_all(text).unwrap();
    let bitmap = open(&built.bytes).layout().bitmap_offset();
    for (page, kept, unknown) in [(0, 7, 32768), (1, 21, 32768)] {
        assert_restored(&built, bitmap + page * 4096);
        let mut bytes = seal_without_copy(&built.bytes, Codec::Zstd, 4096);
        damage_frame(&mut bytes, bitmap + page * 4096);
        let (report, out) = salvage(&bytes, &Options::default()).unwrap();
        assert_eq!((report.pages.kept, report.pages.unknown), (kept, unknown));
        assert_eq!(report.sections[0].section, "page bitmap");
        assert_contents(
            &built,
            &report,
            &out,
            &format!("page {page} of the bitmap lost"),
        );
    }
}

#[test]
fn lost_page_tables_are_reported_and_map_nothing() {
    let built = build("");
    let pmap = open(&built.bytes).layout().pmap_offset();
    assert_restored(&built, pmap);
    let mut bytes = seal_without_copy(&built.bytes, Codec::Zstd, 4096);
    damage_frame(&mut bytes, pmap);
    let (report, out) = salvage(&bytes, &Options::default()).unwrap();
    assert_eq!(
        (report.sections[0].section, report.sections[0].lost),
        ("page tables", 4096)
    );
    assert_eq!(report.pages.lost, 0);
    assert_contents(&built, &report, &out, "page tables");
    let answer = open(&out).translate(VirtAddr(0xffff_ffff_8000_0000));
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn sound_recipes_are_salvaged_without_change() {
    for recipe in recipes().unwrap() {
        let built = mkdump::build_all(&recipe.text).unwrap();
        let expected = recipe.expectation.as_ref().unwrap();
        let sound = expected.exit == 0 && expected.verdict != Expected::Text;
        let result = salvage(&built.bytes, &Options::default());
        let Ok((report, out)) = result else {
            assert!(!sound, "{}: {:?}", recipe.name, result.err());
            continue;
        };
        if !sound {
            continue;
        }
        assert!(report.is_whole(), "{}: {report:?}", recipe.name);
        let found = compared(&built.bytes, &out);
        let what = format!("{}: {:#}", recipe.name, found.value());
        assert_eq!(found.answer, Answer::Same, "{what}");
    }
}

#[test]
fn recipes_without_errors_compare_equal_to_themselves() {
    let options = livecore_verify::Options::default();
    for recipe in recipes().unwrap() {
        let bytes = mkdump::build_all(&recipe.text).unwrap().bytes;
        let source = Arc::new(bytes.clone());
        let verified = livecore_verify::verify(source, &options, &NoProgress);
        let usable = matches!(verified.verdict, Verdict::Sound | Verdict::Warnings);
        let found = compared(&bytes, &bytes);
        // Without the private key, the pages of an encrypted dump cannot be compared.
        let encrypted = verified.findings.iter().any(|f| f.rule.id == "KEY-UNREAD");
        // A text dump has no pages.
        let text = verified.outcomes.contains_key("TD-MEMBER");
        let code = if usable && !encrypted && !text { 0 } else { 4 };
        let what = format!("{}: {:#}", recipe.name, found.value());
        assert_eq!(found.answer.exit_code(), code, "{what}");
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the test harness prints the seed with a failure"
)]
#[test]
fn damage_of_a_truncated_or_padded_file_lies_within_the_file() {
    let built = build("");
    let seed = 20_261_130;
    eprintln!("seed {seed}");
    let mut random = Random::new(seed);
    for codec in CODECS {
        for container in CONTAINERS {
            let whole = converted(&built.bytes, &target(container, codec, FRAME));
            let mut cut = 0;
            for _ in 0..12 {
                let mut bytes = whole.clone();
                bytes.truncate(1 + random.below(bytes.len() as u64 - 1) as usize);
                for padding in [0, 70_000] {
                    let len = bytes.len();
                    bytes.resize(len + padding, 0);
                    let what = format!("{codec} {container:?}, {len} and {padding} bytes");
                    let Ok((report, _)) = salvage(&bytes, &Options::default()) else {
                        continue;
                    };
                    for damage in &report.damage {
                        let end = report.start + damage.offset + damage.len.unwrap_or(0);
                        assert!(end <= bytes.len() as u64, "{what}: {damage:?}");
                        let Some((_, stated)) = damage.found.rsplit_once(" at 0x") else {
                            continue;
                        };
                        let stated = report.start + u64::from_str_radix(stated, 16).unwrap();
                        assert!(stated <= bytes.len() as u64, "{what}: {damage:?}");
                        cut += 1;
                    }
                }
            }
            assert!(cut > 0 || codec == Codec::None, "{codec} {container:?}");
        }
    }
}
