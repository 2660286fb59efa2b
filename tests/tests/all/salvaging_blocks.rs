//! One damaged block of a sealed dump costs the pages of its own frame, wherever it lies.
//!
//! 12 blocks of each codec; `LIVECORE_DAMAGED_BLOCKS=200` tries as many.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, OpenOptions as StreamOptions, Stream};
use livecore_minidump::convert::{Target, convert};
use livecore_minidump::salvage::{Options, Report, Salvage};
use livecore_minidump::{Container, Dump, KernelMemory, OpenOptions, PhysAddr};
use livecore_tests::mkdump::{self, Built};

const BLOCK: usize = 64 << 10;
const FRAME: u32 = 128 << 10;

/// 8 MiB of pages, most of which do not compress.
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

fn open(bytes: &[u8]) -> Dump {
    Dump::from_source(Arc::new(bytes.to_vec()), &OpenOptions::default()).unwrap()
}

fn seal(bytes: &[u8], codec: Codec) -> Vec<u8> {
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(codec).frame_size(FRAME),
    };
    let mut out = Vec::new();
    convert(&open(bytes), &target, &mut out, &NoProgress).unwrap();
    out
}

fn salvage(bytes: &[u8], proven: bool) -> (Report, Vec<u8>) {
    let options = Options {
        proven,
        ..Options::default()
    };
    let found = Salvage::examine(Arc::new(bytes.to_vec()), &options, &NoProgress).unwrap();
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::Zstd).level(1),
    };
    let mut out = Vec::new();
    found.write(&target, &mut out, &NoProgress).unwrap();
    (found.report().clone(), out)
}

/// The pages that are not in `out`, or in there without proof; all others are right.
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
        if ranges
            .iter()
            .any(|r| r.start < offset + page_size && r.end > offset)
        {
            unproven.insert(*at);
        } else {
            assert!(page == *original, "{what}: page {at:#x} is another");
        }
    }
    (lost, unproven)
}

/// The pages whose bytes lie in these ranges of the payload.
fn pages_in(dump: &Dump, ranges: &[Range<u64>]) -> BTreeSet<u64> {
    let page_size = dump.layout().page_size();
    let mut pages = BTreeSet::new();
    for (rank, bit) in (0..).zip(dump.bitmap().iter()) {
        let offset = dump.layout().page_offset(rank).unwrap();
        if ranges
            .iter()
            .any(|r| r.start < offset + page_size && r.end > offset)
        {
            pages.insert(dump.dump_avail().addr_of(bit).unwrap().0);
        }
    }
    pages
}

#[test]
fn damaged_block_of_a_sealed_dump_costs_its_own_frames_pages_and_no_others() {
    let built = mkdump::build_all(MACHINE).unwrap();
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let whole = seal(&built.bytes, codec);
        let dump = open(&whole);
        let source = Arc::new(whole.clone());
        let stream = Stream::from_source(source, &StreamOptions::new()).unwrap();
        let (data_len, table) = (
            stream.data_len().unwrap() as usize,
            stream.frames().unwrap(),
        );
        let count = blocks();
        for number in 0..count {
            let at = number * (whole.len() - 1) / (count - 1).max(1);
            let end = (at + BLOCK).min(whole.len());
            let mut bytes = whole.clone();
            bytes[at..end].fill(0);
            if bytes == whole {
                continue;
            }
            let what = format!("{codec}: block at {at:#x}");
            let hit = |frame: &livecore_compress::Frame| {
                let stored = frame.offset as usize..;
                let stored = stored.start..stored.start + frame.entry.stored_len as usize;
                bytes[stored.clone()] != whole[stored]
            };
            let damaged: Vec<_> = (0..table.count())
                .filter_map(|n| table.get(n))
                .filter(hit)
                .map(|f| f.content_offset..f.content_offset + u64::from(f.content_len))
                .collect();
            let own = pages_in(&dump, &damaged);
            let (report, out) = salvage(&bytes, false);
            assert!(!report.is_whole(), "{what} is told");
            assert!(report.sections.is_empty(), "{what}: {:?}", report.sections);
            let (lost, unproven) = lost_and_unproven(&built, &out, &what);
            assert!(lost.is_subset(&own), "{what}: {lost:x?} of {own:x?}");
            if codec == Codec::None && end > data_len {
                // Without its index an uncompressed dump is proven by its copy alone.
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
    }
}
