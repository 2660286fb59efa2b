use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::minidump::reserve;
use super::{Dump, HeaderOrigin, OpenOptions, Shortness, Warning};
use crate::info::path_of;
use crate::plan::{Plan, PmapPages};
use crate::{
    AnyDump, Bitmap, Container, DumpAvail, Error, KernelDumpHeader, KernelMemory, MinidumpHeader,
    PhysAddr, PhysMemory, ReadError, VirtAddr,
};
use livecore_compress::ReadAt;

/// Memory in which every 8 bytes contain their own address, except the page table at 0x3000.
struct Machine;

/// Page table: entry 5 maps 0x10_2000, entry 6 the hole 0x10_1000; entry 7 is invalid.
fn table() -> Vec<u8> {
    let mut table = vec![0; 4096];
    table[40..48].copy_from_slice(&0x8000_0000_0010_2003_u64.to_le_bytes());
    table[48..56].copy_from_slice(&0x10_1003_u64.to_le_bytes());
    table[56..64].copy_from_slice(&0x10_2002_u64.to_le_bytes());
    table
}

fn memory(at: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for page in (at / 4096..).take(len / 4096) {
        if page == 3 {
            bytes.extend(table());
        } else {
            bytes.extend((0..512).flat_map(|i| (page * 4096 + 8 * i).to_le_bytes()));
        }
    }
    bytes
}

const RANGES: [Range<PhysAddr>; 2] = [
    PhysAddr(0x1000)..PhysAddr(0x4000),
    PhysAddr(0x10_0000)..PhysAddr(0x10_4000),
];

impl PhysMemory for Machine {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &RANGES
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        buf.copy_from_slice(&memory(at.0, buf.len()));
        Ok(())
    }
}

const KERNBASE: u64 = 0xffff_fe00_0000_0000;
const DMAP: u64 = 0xffff_f800_0000_0000;

/// A dump of pages 1, 2, 3 and 0x100, 0x102, 0x103. The kernel map has the table at 0x3000, a 2 MiB
/// leaf at 0x20_0000, whose pages are not in the dump, and a table that is not in the dump.
pub(crate) fn payload(version: u32) -> Vec<u8> {
    let pages = [1, 2, 3, 0x100, 0x102, 0x103];
    let (ranges, bits) = if version == 3 {
        let ranges = DumpAvail::from_ranges(&RANGES, 4096).unwrap();
        let bits = vec![0b110_1111];
        (ranges, bits)
    } else {
        let mut words = vec![0_u64; 5];
        for page in pages {
            words[page / 64] |= 1 << (page % 64);
        }
        (DumpAvail::from_zero(0x104, 4096), words)
    };
    let bitmap = Bitmap::from_words(bits, ranges.bits()).unwrap();
    let mut page = vec![0; 4096];
    let entries = if version == 1 {
        // PTEs: only slot 5.
        [0, 0, 0, 0, 0, 0x10_2003_u64]
    } else {
        [0x3003, 0x20_0083, 0x9003, 0, 0, 0]
    };
    for (slot, entry) in page.chunks_exact_mut(8).zip(entries) {
        slot.copy_from_slice(&entry.to_le_bytes());
    }
    let mut pmap = PmapPages::new();
    pmap.insert(0, page.into());
    let header = MinidumpHeader {
        version,
        msgbufsize: 100,
        pmapsize: 4096,
        kernbase: KERNBASE,
        dmapbase: DMAP,
        dmapend: DMAP + (4 << 40),
        ..MinidumpHeader::default()
    };
    let payload = Plan::new(header, vec![5; 172], ranges, bitmap, pmap)
        .unwrap()
        .payload(Arc::new(Machine));
    let mut bytes = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn open(bytes: Vec<u8>) -> Result<Dump, Error> {
    Dump::from_source(Arc::new(bytes), &OpenOptions::default())
}

fn header_for(bytes: &[u8]) -> KernelDumpHeader {
    KernelDumpHeader {
        architecture: b"amd64".to_vec(),
        architectureversion: 2,
        dumplength: bytes.len() as u64,
        dumpextent: bytes.len() as u64,
        dumptime: 1_700_000_000,
        blocksize: 4096,
        ..KernelDumpHeader::default()
    }
}

pub(crate) fn raw(version: u32) -> Vec<u8> {
    let mut bytes = payload(version);
    bytes.extend(header_for(&bytes).encode());
    bytes
}

#[test]
fn pages_are_read_at_physical_and_direct_map_addresses() {
    for version in 1..=3 {
        let dump = open(payload(version)).unwrap();
        assert_eq!(dump.envelope().warnings(), []);
        assert_eq!(dump.envelope().container(), Container::Saved);
        for page in [1_u64, 2, 3, 0x100, 0x102, 0x103] {
            let mut buf = vec![0; 4096];
            dump.read_phys(PhysAddr(page * 4096), &mut buf).unwrap();
            assert_eq!(buf, memory(page * 4096, 4096));
            dump.read_virt(VirtAddr(DMAP + page * 4096), &mut buf)
                .unwrap();
            assert_eq!(buf, memory(page * 4096, 4096));
        }
        let mut three = vec![0; 3 * 4096 - 20];
        dump.read_phys(PhysAddr(0x100a), &mut three).unwrap();
        assert_eq!(three, memory(0x1000, 3 * 4096)[10..3 * 4096 - 10]);
    }
}

#[test]
fn reading_a_page_that_is_not_in_the_dump_is_an_error() {
    for version in 1..=3 {
        let dump = open(payload(version)).unwrap();
        for hole in [0, 0x4000, 0xf_f000, 0x10_1000, 0x10_4000, 1 << 40, u64::MAX] {
            let error = dump.read_phys(PhysAddr(hole), &mut [0]).unwrap_err();
            assert!(
                matches!(error, ReadError::Hole { .. }),
                "{hole:#x}: {error}"
            );
        }
        let mut buf = vec![0; 8192];
        let (done, end) = dump.read_phys_part(PhysAddr(0x10_0000), &mut buf);
        assert_eq!(done, 4096);
        assert!(matches!(
            end,
            Err(ReadError::Hole {
                at: PhysAddr(0x10_1000)
            })
        ));
    }
}

#[test]
fn kernel_addresses_are_translated_in_every_version() {
    let at = |slot: u64| VirtAddr(KERNBASE + slot * 4096 + 0x123);
    for version in 1..=3 {
        let dump = open(payload(version)).unwrap();
        assert_eq!(dump.translate(at(5)).unwrap(), PhysAddr(0x10_2123));
        for slot in [4, 7] {
            let error = dump.translate(at(slot)).unwrap_err();
            assert!(matches!(error, ReadError::NotMapped { .. }), "{error}");
        }
        // Beyond the section, and between direct map and kernel map.
        for bad in [KERNBASE + (1 << 40), DMAP + (4 << 40), DMAP - 1, 0] {
            let error = dump.translate(VirtAddr(bad)).unwrap_err();
            assert!(matches!(error, ReadError::NotMapped { .. }), "{error}");
        }
    }
    let dump = open(payload(3)).unwrap();
    assert_eq!(
        dump.translate(VirtAddr(KERNBASE + 0x20_0000 + 0x1_2345))
            .unwrap(),
        PhysAddr(0x21_2345)
    );
    assert_eq!(dump.translate(at(6)).unwrap(), PhysAddr(0x10_1123));
    let error = dump.translate(at(1024)).unwrap_err();
    assert!(matches!(error, ReadError::NotMapped { .. }), "{error}");
    let mut byte = [0];
    assert!(dump.read_virt(at(6), &mut byte).is_err());
}

#[test]
fn pages_before_the_cut_of_a_saved_file_are_readable() {
    let whole = payload(3);
    let cut = whole.len() - 4096 - 100;
    let dump = open(whole[..cut].to_vec()).unwrap();
    let short = Shortness {
        expected: whole.len() as u64,
        actual: cut as u64,
        pages: 2,
    };
    assert_eq!(dump.envelope().warnings(), [Warning::Short(short)]);
    assert_eq!(dump.shortness().unwrap(), Some(short));
    let mut buf = vec![0; 4096];
    let (done, end) = dump.read_phys_part(PhysAddr(0x10_2000), &mut buf);
    assert_eq!(
        (done, &buf[..done]),
        (3996, &memory(0x10_2000, 4096)[..3996])
    );
    assert!(matches!(end, Err(ReadError::BeyondEnd { .. })));
    let error = dump.read_phys(PhysAddr(0x10_3000), &mut buf).unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::BeyondEnd {
                at: PhysAddr(0x10_3000),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn zero_tail_reads_zeros_with_a_warning() {
    let whole = payload(3);
    let options = OpenOptions::default().zero_tail(true);
    let source = whole[..whole.len() - 5000].to_vec();
    let dump = Dump::from_source(Arc::new(source), &options).unwrap();
    assert!(matches!(dump.envelope().warnings(), [Warning::ZeroTail(s)] if s.pages == 2));
    let mut buf = vec![1; 4096];
    dump.read_phys(PhysAddr(0x10_3000), &mut buf).unwrap();
    assert_eq!(buf, [0; 4096]);
    let mut all = vec![1; whole.len()];
    dump.payload().read_exact_at(&mut all, 0).unwrap();
    assert_eq!(all[..whole.len() - 5000], whole[..whole.len() - 5000]);
    assert!(all[whole.len() - 5000..].iter().all(|b| *b == 0));
    assert_eq!(dump.payload().size().unwrap(), whole.len() as u64);
    // A hole is still an error.
    assert!(dump.read_phys(PhysAddr(0x10_1000), &mut buf).is_err());
}

#[test]
fn file_cut_before_the_page_data_is_broken_in_that_section() {
    let whole = payload(3);
    for (len, region) in [
        (100, "minidump header"),
        (4095, "minidump header"),
        (4096, "message buffer"),
        (8191, "message buffer"),
        (8192, "dump_avail"),
        (12288, "page bitmap"),
        (16384, "page tables"),
        (20479, "page tables"),
    ] {
        match open(whole[..len].to_vec()) {
            Err(Error::Broken { region: found, .. }) => assert_eq!(found, region, "{len}"),
            other => panic!("{len} bytes: {other:?}"),
        }
    }
    assert!(matches!(open(vec![]), Err(Error::NotADump { .. })));
    assert!(matches!(open(vec![7; 5000]), Err(Error::NotADump { .. })));
}

#[test]
fn raw_file_has_a_header_and_a_wrong_length_is_broken() {
    let dump = open(raw(3)).unwrap();
    assert_eq!(dump.envelope().container(), Container::Raw);
    assert_eq!(dump.envelope().warnings(), []);
    assert_eq!(
        dump.envelope().kerneldumpheader().unwrap().dumptime,
        1_700_000_000
    );
    let offset = payload(3).len() as u64;
    assert_eq!(
        *dump.envelope().header_origin(),
        HeaderOrigin::File { offset }
    );
    assert_eq!(dump.payload().size().unwrap(), offset);
    // Two pages are missing in the middle, so the length in the header is wrong.
    let mut short = raw(3);
    short.drain(30000..30000 + 8192);
    assert!(matches!(open(short), Err(Error::Broken { .. })));
    // The length in the header is right, but the bitmap has more pages.
    let mut short = payload(3);
    short.truncate(short.len() - 4096);
    short.extend(header_for(&short).encode());
    assert!(matches!(open(short), Err(Error::Broken { .. })));
}

#[test]
fn cleared_and_damaged_headers_cause_warnings() {
    let mut cleared = raw(3);
    let at = cleared.len() - 512;
    cleared[at..at + 20].copy_from_slice(b"Cleared Kernel Dump\0");
    assert_eq!(
        open(cleared).unwrap().envelope().warnings(),
        [Warning::Cleared]
    );
    let mut flipped = raw(3);
    flipped[at + 100] ^= 1;
    assert_eq!(
        open(flipped).unwrap().envelope().warnings(),
        [Warning::Parity]
    );
    let mut text = raw(3);
    text[at..at + 20].copy_from_slice(b"FreeBSD Text Dump\0\0\0");
    assert!(matches!(open(text), Err(Error::Unsupported { .. })));
}

#[test]
fn a_bitmap_smaller_than_its_dump_avail_is_broken() {
    let mut bytes = payload(3);
    // bitmapsize 0 moves all later sections, but the size is checked first.
    bytes[32..36].fill(0);
    assert!(matches!(open(bytes), Err(Error::Broken { .. })));
    let mut bytes = payload(3);
    // One more range of 2^51 pages.
    bytes[8192 + 32..8192 + 40].copy_from_slice(&0x100_0000_u64.to_le_bytes());
    bytes[8192 + 40..8192 + 48].fill(0xff);
    assert!(matches!(open(bytes), Err(Error::Broken { .. })));
}

#[test]
fn stray_bits_after_dump_avail_are_not_pages() {
    let mut bytes = payload(3);
    bytes[12288 + 1] = 1;
    let dump = open(bytes.clone()).unwrap();
    assert_eq!(
        dump.envelope().warnings(),
        [Warning::StrayBits { count: 1 }]
    );
    assert_eq!(dump.bitmap().count(), 6);
    bytes.extend([0; 8192]);
    let dump = open(bytes).unwrap();
    assert!(
        dump.envelope()
            .warnings()
            .iter()
            .any(|w| matches!(w, Warning::Trailing { len: 8192, .. }))
    );
}

/// Sets every byte of the header and the lists to boundary values. The result is an error or a dump,
/// without a panic or an allocation larger than the file.
#[test]
fn damaged_headers_do_not_panic() {
    let good = raw(3);
    let (mut opened, mut refused) = (0, 0);
    let tail = good.len() - 512..good.len();
    for at in (0..80)
        .chain(8192..8192 + 64)
        .chain(12288..12300)
        .chain(tail)
    {
        for value in [0, 0x10, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            if bytes[at] == value {
                continue;
            }
            bytes[at] = value;
            match open(bytes) {
                Ok(dump) => {
                    let _ = dump.translate(VirtAddr(KERNBASE + 0x5000));
                    let _ = dump.read_phys(PhysAddr(0x10_2000), &mut [0; 10]);
                    opened += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(opened > 100 && refused > 100, "{opened} {refused}");
}

#[test]
fn info_file_gives_the_length_of_its_dump() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = payload(3);
    let path = dir.path().join("vmcore.7");
    std::fs::write(&path, &bytes).unwrap();
    let info = |length: u64| {
        let header = KernelDumpHeader {
            dumplength: length,
            hostname: b"h".to_vec(),
            ..header_for(&bytes)
        };
        let time = "2023-11-14 22:13:20 +0000";
        let text = crate::info::render(&header.with_parity(), "/dev/mem", 7, "good", time);
        std::fs::write(dir.path().join("info.7"), text).unwrap();
    };
    info(bytes.len() as u64);
    let options = OpenOptions::default();
    let dump = Dump::open(&path, &options).unwrap();
    assert_eq!(
        dump.envelope().kerneldumpheader().unwrap().dumptime,
        1_700_000_000
    );
    assert_eq!(dump.envelope().kerneldumpheader().unwrap().hostname, b"h");
    assert!(matches!(
        dump.envelope().header_origin(),
        HeaderOrigin::Info(_)
    ));
    assert_eq!(dump.envelope().warnings(), []);
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    assert!(matches!(
        Dump::open(&path, &options),
        Err(Error::Broken { .. })
    ));
    std::fs::write(dir.path().join("info.7"), "nonsense").unwrap();
    let dump = Dump::open(&path, &options).unwrap();
    assert!(matches!(
        dump.envelope().warnings(),
        [Warning::Info { .. }, Warning::Short(_)]
    ));
}

#[test]
fn dump_is_read_from_a_pipe() {
    let bytes = raw(3);
    let dump = Dump::from_reader(
        &mut bytes.as_slice(),
        &OpenOptions::default(),
        &livecore_compress::NoProgress,
    )
    .unwrap();
    assert_eq!(dump.envelope().container(), Container::Raw);
    assert_eq!(dump.envelope().file_len(), bytes.len() as u64);
}

#[test]
fn info_file_of_netdumpd_is_found_by_host_name() {
    let dir = tempfile::tempdir().unwrap();
    for (name, info) in [
        ("vmcore.fw1.3", Some("info.fw1.3")),
        ("vmcore.fw.example.org.0.zst", Some("info.fw.example.org.0")),
        ("vmcore.192.0.2.7.12.gz", Some("info.192.0.2.7.12")),
        ("vmcore.fw1.x", None),
        ("core.fw1.3", None),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, "").unwrap();
        assert_eq!(path_of(&path), None, "{name}");
        let Some(info) = info else {
            continue;
        };
        std::fs::write(dir.path().join(info), "").unwrap();
        let found = path_of(&path).unwrap();
        assert_eq!(found.file_name().unwrap().to_str(), Some(info));
    }
}

#[test]
fn any_dump_is_a_minidump_while_clones_of_it_exist() {
    let dump = AnyDump::from_source(Arc::new(raw(3)), &OpenOptions::default()).unwrap();
    let clone = dump.clone();
    let mini = dump.into_minidump().unwrap();
    assert_eq!(mini.bitmap().count(), clone.page_count());
}

#[test]
fn bitmap_limit_is_half_of_the_memory_limit() {
    let stream = livecore_compress::OpenOptions::new().memory(100 << 20);
    let options = OpenOptions::new().stream(stream);
    assert_eq!(options.bitmap_limit, 50 << 20);
    let bitmap = payload(3);
    assert!(AnyDump::from_source(Arc::new(bitmap.clone()), &options).is_ok());
    let refused = AnyDump::from_source(Arc::new(bitmap), &options.bitmap_limit(0));
    assert!(matches!(refused, Err(Error::Options(_))));
    let mut words: Vec<u64> = Vec::new();
    let refused = reserve(&mut words, usize::MAX / 8, "page bitmap");
    assert!(matches!(refused, Err(Error::Options(_))));
}
