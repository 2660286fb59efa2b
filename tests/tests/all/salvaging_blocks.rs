//! A damaged block of a sealed dump loses only the pages of its own frame.
//!
//! Tests 12 blocks of each codec, or as many as `LIVECORE_DAMAGED_BLOCKS`. With `--nocapture` it
//! prints the figures.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::{Codec, OpenOptions as StreamOptions, Stream};
use livecore_minidump::salvage::{Options, Report};
use livecore_minidump::{Container, Dump, KernelMemory, PhysAddr};
use livecore_tests::mkdump::{self, Built};

use crate::dumps::{CODECS, converted, open, overlap, target};

const BLOCK: usize = 64 << 10;
const FRAME: u32 = 128 << 10;

/// 8 MiB of pages, most of them incompressible.
const MACHINE: &str = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9f000
avail 0x200000 0x1400000
msgbuf text \"---<<BOOT>>---\\n\"
page 0x1000 text \"the first page of the machine\"
pages 0x3000 60 seed 1
pages 0x200000 1500 seed 9
pages 0xa00000 500 own
map 0xffffffff80000000 0x800000 4K rw times 64
table 0xffffffff80000000 0x3000
";

fn blocks() -> usize {
    std::env::var("LIVECORE_DAMAGED_BLOCKS").map_or(12, |n| n.parse().unwrap())
}

fn salvage(bytes: &[u8], proven: bool) -> (Report, Vec<u8>) {
    let options = Options::default().proven(proven);
    crate::dumps::salvage(bytes, &options).unwrap()
}

/// The lost and the unproven pages of `out`. Asserts that all others equal the original.
fn lost_and_unproven(built: &Built, out: &[u8], what: &str) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let dump = open(out);
    let ranges = dump.envelope().seal().unwrap().unproven_ranges.clone();
    let page_size = dump.layout().page_size();
    let (mut lost, mut unproven) = (BTreeSet::new(), BTreeSet::new());
    for (at, original) in &built.oracle.as_ref().unwrap().pages {
        let bit = dump.dump_avail().bit_of(PhysAddr(*at)).unwrap();
        if !dump.bitmap().contains(bit) {
            lost.insert(*at);
            continue;
        }
        let offset = dump
            .bitmap()
            .rank(bit)
            .and_then(|r| dump.layout().page_offset(r));
        let offset = offset.unwrap();
        let mut page = vec![0; page_size as usize];
        dump.read_phys(PhysAddr(*at), &mut page).unwrap();
        if overlap(&ranges, offset, page_size) {
            unproven.insert(*at);
        } else {
            assert!(page == *original, "{what}: page {at:#x} differs");
        }
    }
    (lost, unproven)
}

/// The pages that overlap these ranges of the payload.
fn pages_in(dump: &Dump, ranges: &[Range<u64>]) -> BTreeSet<u64> {
    let page_size = dump.layout().page_size();
    let mut pages = BTreeSet::new();
    for (rank, bit) in (0..).zip(dump.bitmap().iter()) {
        let offset = dump.layout().page_offset(rank).unwrap();
        if overlap(ranges, offset, page_size) {
            pages.insert(dump.dump_avail().addr_of(bit).unwrap().0);
        }
    }
    pages
}

#[test]
#[expect(clippy::print_stderr, reason = "--nocapture prints the counts")]
fn damaged_block_loses_only_the_pages_of_its_own_frames() {
    let built = mkdump::build_all(MACHINE).unwrap();
    for codec in CODECS {
        let whole = converted(&built.bytes, &target(Container::Sealed, codec, FRAME));
        let dump = open(&whole);
        let source = Arc::new(whole.clone());
        let stream = Stream::from_source(source, &StreamOptions::new()).unwrap();
        let (data_len, table) = (
            stream.data_len().unwrap() as usize,
            stream.frames().unwrap(),
        );
        let count = blocks();
        let (mut tried, mut in_frames, mut pages) = (0, 0, 0);
        for number in 0..count {
            let at = number * (whole.len() - 1) / (count - 1).max(1);
            let end = (at + BLOCK).min(whole.len());
            let mut bytes = whole.clone();
            bytes[at..end].fill(0);
            if bytes == whole {
                continue;
            }
            let what = format!("{codec}: block at {at:#x}");
            let is_damaged = |frame: &livecore_compress::Frame| {
                let stored = frame.offset as usize..;
                let stored = stored.start..stored.start + frame.entry.stored_len as usize;
                bytes[stored.clone()] != whole[stored]
            };
            let damaged: Vec<_> = (0..table.count())
                .filter_map(|n| table.get(n))
                .filter(is_damaged)
                .map(|f| f.content_offset..f.content_offset + u64::from(f.content_len))
                .collect();
            let own = pages_in(&dump, &damaged);
            tried += 1;
            in_frames += usize::from(!damaged.is_empty());
            pages += own.len();
            let (report, out) = salvage(&bytes, false);
            assert!(!report.is_whole(), "{what}: damage not reported");
            assert!(report.sections.is_empty(), "{what}: {:?}", report.sections);
            let (lost, unproven) = lost_and_unproven(&built, &out, &what);
            assert!(lost.is_subset(&own), "{what}: {lost:x?} of {own:x?}");
            if codec == Codec::None && end > data_len {
                // Without the index, only pages with a second copy are proven.
                continue;
            }
            assert!(
                unproven.is_subset(&own),
                "{what}: {unproven:x?} of {own:x?}"
            );
            let (_, out) = salvage(&bytes, true);
            let (lost, unproven) = lost_and_unproven(&built, &out, &what);
            assert!(unproven.is_empty(), "{what}");
            assert_eq!(lost, own, "{what}");
        }
        eprintln!(
            "{codec}: {tried} blocks of {BLOCK} bytes, {in_frames} of them in frames with {pages} \
             pages: no other page was lost"
        );
    }
}
