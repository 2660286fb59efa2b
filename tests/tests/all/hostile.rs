//! Dumps with random damage: no panic, a bounded number of reads, and no data for an address without a page.
//!
//! The sample is small and fixed. `LIVECORE_HOSTILE=1000` damages each recipe 1000 times, with
//! seeds from 1.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use livecore_compress::{Codec, NoProgress, ReadAt};
use livecore_minidump::convert::convert;
use livecore_minidump::{
    Container, Dump, KernelMemory, MessageBuffer, OpenOptions, PhysAddr, VirtAddr,
};
use livecore_tests::corpus::recipes;
use livecore_tests::mkdump;
use livecore_tests::random::Random;

use crate::dumps::{open, target};

/// The maximum number of reads from the file for opening a dump and [`read_everything`]. Sound and
/// damaged dumps of the recipes need up to 410; a loop over a claimed length needs far more.
const READS_MAX: u64 = 10_000;

/// A file that panics if it is read too often.
struct Counted {
    bytes: Vec<u8>,
    reads: AtomicU64,
}

impl ReadAt for Counted {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        assert!(reads < READS_MAX, "{reads} reads");
        self.bytes.read_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }
}

/// Applies up to four changes, most of them in structures: the header, `dump_avail`, the bitmap, the
/// end of the file.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.index(4) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        let at = match random.index(8) {
            0..=2 => random.index(len.min(160)),
            3 | 4 => len - 1 - random.index(len.min(600)),
            // Sections begin at page boundaries.
            5 | 6 => (random.index(len / 4096 + 1) * 4096 + random.index(64)).min(len - 1),
            _ => random.index(len),
        };
        match random.index(16) {
            0 => bytes.truncate(at),
            1..=4 => bytes[at] ^= 1 << random.index(8),
            5..=7 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.index(4)],
            8..=10 => {
                let end = (at + 4).min(len);
                bytes[at..end].fill([0, 0xff][random.index(2)]);
            }
            11 => bytes.extend(vec![0; random.index(10_000)]),
            _ => bytes[at] = random.next() as u8,
        }
    }
}

/// Calls every reader of the dump.
fn read_everything(dump: &Dump) {
    let mini = dump.header();
    if let Ok(buffer) = MessageBuffer::of(dump, None) {
        let _ = buffer.dmesg(true).len() + buffer.text().len();
    }
    let mut left = 50_000;
    let _ = dump.walk(&mut |_| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if let Ok(pages) = dump.pages(4) {
        assert!(pages.iter().count() as u64 <= dump.bitmap().count());
    }
    let mut buf = [0; 100];
    for at in [0, mini.kernbase, mini.dmapbase, mini.dmapend, u64::MAX - 50] {
        let _ = dump.read_virt(VirtAddr(at), &mut buf);
        let _ = dump.read_phys(PhysAddr(at), &mut buf);
    }
    for segment in dump.dump_avail().ranges().iter().take(8) {
        for at in [
            segment.start,
            PhysAddr(segment.start.0 / 2 + segment.end.0 / 2),
            segment.end,
        ] {
            let answer = dump.read_phys(at, &mut buf[..1]);
            let bit = dump.dump_avail().bit_of(at);
            let there = bit.is_some_and(|bit| dump.bitmap().contains(bit));
            assert!(there || answer.is_err(), "read of hole {at:#x} succeeds");
        }
    }
    for (container, codec) in [
        (Container::Sealed, Codec::None),
        (Container::Raw, Codec::Zstd),
    ] {
        let target = target(container, codec, 1 << 20);
        let _ = convert(dump, &target, &mut io::sink(), &NoProgress);
    }
}

#[test]
fn reading_damaged_dumps_does_not_panic_and_needs_few_reads() {
    let samples = std::env::var("LIVECORE_HOSTILE").ok();
    let times: u64 = samples.map_or(6, |n| n.parse().unwrap());
    let (mut opened, mut refused, mut most) = (0, 0, 0);
    for recipe in recipes().unwrap() {
        let whole = mkdump::build(&recipe.text).unwrap();
        for seed in 1..=times {
            let mut bytes = whole.clone();
            let mut random = Random::new(seed);
            damage(&mut bytes, &mut random);
            let name = format!("{} seed {seed}", recipe.name);
            let file = Arc::new(Counted {
                bytes,
                reads: AtomicU64::new(0),
            });
            let answer = std::panic::catch_unwind(|| {
                let source = Arc::clone(&file) as Arc<dyn ReadAt>;
                Dump::from_source(source, &OpenOptions::default())
                    .map(|dump| read_everything(&dump))
            });
            match answer {
                Ok(Ok(())) => opened += 1,
                Ok(Err(_)) => refused += 1,
                Err(_) => panic!("{name} panics"),
            }
            most = most.max(file.reads.load(Ordering::Relaxed));
        }
    }
    assert!(
        opened > 100 && refused > 100,
        "{opened} opened, {refused} refused"
    );
    let line = format!("{opened} dumps opened, {refused} refused, at most {most} reads\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// All entries of the page directory point at one table, and the dump has few pages.
#[test]
fn walk_reads_at_most_as_many_tables_as_the_dump_has_pages() {
    let text = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9000
msgbuf text \"---<<BOOT>>---\\n\"
page 0x1000 own
table 0xffffffff80000000 0x3000
map 0xffffffff80000000 0x1000 4K rw
";
    let mut payload = mkdump::build(text).unwrap();
    let word = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().unwrap()) as usize;
    let start = 4096 + word(28).next_multiple_of(4096) + 4096 + word(32);
    let tables = start..start + word(36);
    for entry in payload[tables].chunks_exact_mut(8) {
        entry.copy_from_slice(&0x3003_u64.to_le_bytes());
    }
    let dump = open(&payload);
    let mut mapped = 0;
    let end = dump.walk(&mut |_| {
        mapped += 1;
        ControlFlow::Continue(())
    });
    let pages = dump.bitmap().count();
    assert_eq!((pages, mapped), (2, 2));
    assert_eq!(end.unwrap().tables_missing, 512 - pages);
}
