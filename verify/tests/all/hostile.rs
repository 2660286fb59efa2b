//! Impossible numbers in dumps: verification ends in a verdict, in bounded time and memory.

use crate::common;
use livecore_kernel::verifier::ElfFacts;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{MACHINE, build, describe, seal, verify};
use livecore_compress::{Codec, NoProgress, ReadAt};
use livecore_defs::PhysAddr;
use livecore_minidump::KernelElf;
use livecore_tests::{mkdump, mkelf};
use livecore_verify::compare::{Answer, compare};
use livecore_verify::{Depth, Options, Report, Space, Verdict};

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Offset of `dump_avail` and range of the page tables of an amd64 payload.
fn sections(payload: &[u8]) -> (usize, Range<usize>) {
    let [msgbuf, bitmap, pmap] = [28, 32, 36].map(|at| number(payload, at));
    let avail = 4096 + msgbuf.next_multiple_of(4096);
    let tables = avail + 4096 + bitmap;
    (avail, tables..tables + pmap)
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn broken(report: &Report, rule: &str) -> u64 {
    report.outcomes.get(rule).map_or(0, |o| o.broken)
}

fn threads(number: usize) -> Options<'static> {
    Options::default().threads(NonZeroUsize::new(number).unwrap())
}

/// A zstd frame of `content` in one raw block, whose header states `declared` bytes.
fn frame(declared: u64, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend(declared.to_le_bytes());
    let block = (content.len() as u32) << 3 | 1;
    frame.extend(&block.to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

#[test]
fn an_impossible_frame_length_is_a_finding() {
    let payload = build("").payload;
    let (_, tables) = sections(&payload);
    let (head, tail) = payload.split_at(tables.end + 3 * 4096);
    let (lost, tail) = tail.split_at(100);
    for (declared, content) in [
        (u64::MAX - 99, lost),
        (u64::MAX - 1, lost),
        (1 << 62, lost),
        (u64::MAX, lost),
        // libzstd takes this length for an unknown one.
        (u64::MAX, &[]),
    ] {
        let mut bytes = zstd::bulk::compress(head, 1).unwrap();
        bytes.extend(frame(declared, content));
        bytes.extend(zstd::bulk::compress(tail, 1).unwrap());
        for number in [1, 2] {
            let report = verify(&bytes, &threads(number));
            assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
            assert_eq!(broken(&report, "ZSTD-CONTENT"), 1, "{}", describe(&report));
        }
        let sources: [Arc<dyn ReadAt>; 2] = [Arc::new(bytes), Arc::new(payload.clone())];
        let found = compare(sources, ["a", "b"], &Options::default(), &NoProgress);
        assert!(matches!(found.answer, Answer::CouldNot(_)));
    }
}

/// Memory and a direct map up to the end of the address space.
#[test]
fn pages_at_the_end_of_the_address_space_are_compared() {
    let payload = |more| {
        let mut payload = build(more).payload;
        let (avail, _) = sections(&payload);
        // The range keeps its number of pages.
        put(&mut payload, avail + 16, u64::MAX - 0x7f_ffff);
        put(&mut payload, avail + 24, u64::MAX);
        put(&mut payload, 48, 0x7fff);
        put(&mut payload, 56, u64::MAX);
        payload
    };
    let one = payload("page 0x9fe000 seed 1\n");
    let other = payload("page 0x9fe000 seed 2\npage 0x9ff000 seed 3\n");
    let sources: [Arc<dyn ReadAt>; 2] = [Arc::new(one), Arc::new(other)];
    let found = compare(sources, ["a", "b"], &Options::default(), &NoProgress);
    assert_eq!(found.answer, Answer::Differ, "{found:?}");
    assert_eq!(
        found.only_b.ranges,
        [PhysAddr(u64::MAX - 0xfff)..PhysAddr::MAX]
    );
    assert_eq!(
        found.differ.ranges,
        [PhysAddr(u64::MAX - 0x1fff)..PhysAddr(u64::MAX - 0xfff)]
    );
    assert_eq!(found.pages[0].direct, None);
}

#[test]
fn a_direct_map_beyond_the_physical_address_space_maps_nothing() {
    for (port, dmap) in [
        ("arm64", 0xffff_a000_0000_0000_u64),
        ("riscv64", 0xffff_ffd0_0000_0000),
    ] {
        let text = format!(
            "minidump {port} 2\navail 0x80000000 0x80100000\n\
             msgbuf text \"---<<BOOT>>---\\n\"\npage 0x80000000 own\n\
             set header.dmapphys = 0xffffffffffff0000\n"
        );
        let payload = mkdump::build(&text).unwrap_or_else(|e| panic!("{port}: {e}"));
        let va = dmap + 0x1_0000;
        let kernel = format!(
            "elf {port}\nsection .data {va:#x} text \"FreeBSD 14.1\" len 32\n\
             symbol version {va:#x} size 32\n"
        );
        let kernel = mkelf::build(&kernel).unwrap_or_else(|e| panic!("{port}: {e}"));
        let kernel = KernelElf::from_bytes(kernel).unwrap();
        let facts = ElfFacts(&kernel);
        let options = Options::default().depth(Depth::Deep).kernel(Some(&facts));
        let report = verify(&payload, &options);
        let findings = report.findings.iter();
        let findings: Vec<_> = findings.filter(|f| f.rule.id == "KRN-COMPARABLE").collect();
        assert_eq!(findings.len(), 1, "{}", describe(&report));
        let region = format!("version at {va:#x}");
        assert_eq!(
            (findings[0].space, &*findings[0].region),
            (Space::Dump, &*region)
        );
    }
}

#[test]
fn a_leaf_table_that_every_entry_points_to_is_walked_once() {
    let mut payload = build("").payload;
    let (_, tables) = sections(&payload);
    for entry in payload[tables].chunks_exact_mut(8) {
        entry.copy_from_slice(&0x3003_u64.to_le_bytes());
    }
    let report = verify(&payload, &Options::default());
    // A table has 512 entries, of which the machine maps 64.
    let (present, absent) = report.facts.mapped.unwrap();
    assert_eq!(present, 64, "{}", describe(&report));
    assert!(present + absent <= 512, "{}", describe(&report));
}

#[test]
fn notes_of_an_elf_core_are_walked_once_for_many_headers() {
    const COUNT: u16 = 40_000;
    let mut core = mkdump::build("fulldump amd64\navail 0x1000 0x2000\npage 0x1000 own\n").unwrap();
    core.truncate(64);
    core[56..58].copy_from_slice(&COUNT.to_le_bytes());
    let end = 64 + 56 * u64::from(COUNT) + 12 * 50_000;
    for _ in 0..COUNT {
        let mut header = [0; 56];
        header[0] = 4;
        put(&mut header, 8, 64);
        put(&mut header, 32, end - 64);
        core.extend(header);
    }
    core.resize(end as usize, 0);
    // 50,000 empty notes.
    core[64 + 56 * usize::from(COUNT)..].fill(0);
    let report = verify(&core, &Options::default());
    assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
}

#[test]
fn a_full_dump_without_memory_headers_is_broken() {
    let text = "fulldump amd64\navail 0x1000 0x3000\npage 0x1000 own\n";
    let sound = mkdump::build(text).unwrap();
    let report = verify(&sound, &Options::default());
    assert_eq!(report.verdict, Verdict::Sound, "{}", describe(&report));
    // p_type of the only program header: PT_NULL, PT_INTERP, PT_NOTE.
    for kind in [0, 3, 4] {
        let mut core = sound.clone();
        core[64] = kind;
        let report = verify(&core, &Options::default());
        assert_eq!(
            report.verdict,
            Verdict::Broken,
            "{kind}: {}",
            describe(&report)
        );
        assert_eq!(broken(&report, "FULL-TABLE"), 1);
    }
}

/// In version 2 only the header states the size of the bitmap.
#[test]
fn a_bitmap_beyond_the_stated_end_of_a_compressed_dump_is_broken_and_not_out_of_memory() {
    let old = MACHINE.replace("amd64 3", "amd64 2");
    let text = format!("{old}container live\ncompress zstd\npatch payload 35 = hex 80\n");
    let bytes = mkdump::build(&text).unwrap();
    let report = verify(&bytes, &Options::default());
    assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
    assert_eq!(broken(&report, "MD-SECTIONS"), 1, "{}", describe(&report));
}

/// A file that counts the bytes read.
struct Counted(Vec<u8>, AtomicU64);

impl ReadAt for Counted {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let read = self.0.read_at(buf, offset)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[test]
fn quick_reads_few_bytes_of_each_gzip_member() {
    let payload = build("pages 0x2d0000 1024 seed 7\n").payload;
    let file = seal(&payload, Codec::Gzip, 4096);
    let source = Arc::new(Counted(file, AtomicU64::new(0)));
    let options = Options::default().depth(Depth::Quick);
    let report = livecore_verify::verify(Arc::clone(&source) as _, &options, &NoProgress);
    assert_eq!(report.verdict, Verdict::Sound, "{}", describe(&report));
    let members = report.facts.frames.unwrap();
    assert!(members > 1000);
    let read = source.1.load(Ordering::Relaxed);
    assert!(read < (2 << 20) + 200 * members, "{read} bytes");
}

/// All frames except the last exceed the memory limit.
#[test]
fn a_sealed_dump_with_frames_above_the_memory_limit_is_sound() {
    let payload = build("pages 0x2d0000 600 seed 7\n").payload;
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let file = seal(&payload, codec, 1 << 20);
        let options = threads(2).memory(2 << 20);
        let report = verify(&file, &options);
        assert_eq!(
            report.verdict,
            Verdict::Sound,
            "{codec}: {}",
            describe(&report)
        );
    }
}
