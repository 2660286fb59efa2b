//! Images of one memory in every format, and checks for all of them.

use livecore_minidump::PhysAddr;
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use livecore_livedump::image::{Format, Image, Options, open_bytes};
use livecore_minidump::PhysMemory;
use livecore_tests::mkimage::{self, Codec, Kdump, Memory, Xen};

pub(crate) const PAGE: u64 = 4096;

/// Memory with a hole, a range above 4 GiB and every kind of page.
pub(crate) fn memory() -> Memory {
    Memory::parse(
        "0x0         17 mix 3
         0x100000    40 mix 8
         0x128000    1  noise 5
         0x100000000 33 mix 1",
    )
}

/// [`memory`] without the range above 4 GiB.
pub(crate) fn low_memory() -> Memory {
    let mut memory = memory();
    memory.ranges.truncate(3);
    memory
}

/// Name, format, memory and image.
pub(crate) type Row = (&'static str, Format, Memory, Vec<u8>);

/// Images of every format that consists of one file.
pub(crate) fn images() -> Vec<Row> {
    let (all, low) = (memory(), low_memory());
    let kdump = |codecs| Kdump {
        codecs,
        ..Kdump::default()
    };
    let wide = mkimage::kdump(&all, &kdump(&[Codec::Zlib]));
    // AVML files omit pages of zeros.
    let mut dense = all.clone();
    for (at, page) in dense
        .ranges
        .iter_mut()
        .flat_map(|(_, b)| (1..).zip(b.chunks_mut(4096)))
    {
        page[0] = at as u8 | 1;
    }
    let hvm = Xen {
        paravirtual: false,
        reversed: false,
        cpus: 2,
    };
    let pv = Xen {
        paravirtual: true,
        reversed: true,
        cpus: 1,
    };
    let mappings = [
        (0xffff_f800_0010_0000, 0x10_0000, 0x2_8000),
        (0xffff_f800_0012_8000, 0x12_8000, 0x1000),
        (0xffff_f801_0000_0000, 0x1_0000_0000, 0x2_1000),
        (0xffff_ffff_8010_0000, 0x10_0000, 0x5000),
        (0xffff_f800_0000_0000, 0, 0x1_1000),
    ];
    let mut many = mkimage::qemu(&all, 1);
    many.xnum = true;
    vec![
        (
            "qemu",
            Format::Elf,
            all.clone(),
            mkimage::qemu(&all, 2).build(),
        ),
        (
            "qemu-32",
            Format::Elf,
            low.clone(),
            mkimage::qemu_32(&low, 2).build(),
        ),
        (
            "qemu-paging",
            Format::Elf,
            all.clone(),
            mkimage::qemu_paging(&all, 2, &mappings).build(),
        ),
        ("qemu-xnum", Format::Elf, all.clone(), many.build()),
        ("kdump-zlib", Format::Kdump, all.clone(), wide.clone()),
        (
            "kdump-lzo",
            Format::Kdump,
            all.clone(),
            mkimage::kdump(&all, &kdump(&[Codec::Lzo])),
        ),
        (
            "kdump-snappy",
            Format::Kdump,
            all.clone(),
            mkimage::kdump(&all, &kdump(&[Codec::Snappy])),
        ),
        (
            "kdump-zstd",
            Format::Kdump,
            all.clone(),
            mkimage::kdump(&all, &kdump(&[Codec::Zstd])),
        ),
        (
            "kdump-32",
            Format::Kdump,
            low.clone(),
            mkimage::kdump(
                &low,
                &Kdump {
                    codecs: &[
                        Codec::Plain,
                        Codec::Zlib,
                        Codec::Lzo,
                        Codec::Snappy,
                        Codec::Zstd,
                    ],
                    wide: false,
                    share_zeros: false,
                    ..Kdump::default()
                },
            ),
        ),
        (
            "flattened",
            Format::KdumpFlattened,
            all.clone(),
            mkimage::flatten(&wide, 16384, true),
        ),
        ("lime", Format::Lime, all.clone(), mkimage::lime(&all)),
        (
            "avml",
            Format::Avml,
            dense.clone(),
            mkimage::avml(&dense, 1 << 20),
        ),
        (
            "virtualbox",
            Format::VirtualBox,
            all.clone(),
            mkimage::virtualbox(&all, 2).build(),
        ),
        (
            "vmware",
            Format::Vmware,
            all.clone(),
            mkimage::vmss_with_memory(&all),
        ),
        ("xen-hvm", Format::Xen, all.clone(), mkimage::xen(&all, hvm)),
        ("xen-pv", Format::Xen, all.clone(), mkimage::xen(&all, pv)),
        (
            "freebsd-full",
            Format::FreeBsdFull,
            all.clone(),
            mkimage::freebsd_full(&all).build(),
        ),
    ]
}

/// Opens an image.
pub(crate) fn open(bytes: Vec<u8>) -> Result<Image, livecore_minidump::Error> {
    open_bytes(Arc::new(bytes), &Options::default())
}

/// The ranges of memory, with adjacent ones joined.
pub(crate) fn ranges(memory: &Memory) -> Vec<Range<PhysAddr>> {
    let mut ranges: Vec<Range<PhysAddr>> = Vec::new();
    for (start, bytes) in &memory.ranges {
        let start = PhysAddr(*start);
        let end = start.wrapping_add(bytes.len() as u64);
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges
}

/// Asserts that `image` has the ranges and bytes of `memory`.
pub(crate) fn check(name: &str, image: &dyn PhysMemory, memory: &Memory) {
    let wanted = ranges(memory);
    assert_eq!(image.ranges(), wanted, "{name}");
    for range in &wanted {
        let range = range.start.0..range.end.0;
        let mut all = vec![0; (range.end - range.start) as usize];
        image
            .read(PhysAddr(range.start), &mut all)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let parts = memory
            .ranges
            .iter()
            .filter(|(start, _)| range.contains(start));
        let truth = parts
            .flat_map(|(_, bytes)| bytes.clone())
            .collect::<Vec<_>>();
        assert!(all == truth, "{name}: {range:#x?}");
        // Reads of partial pages and across pages.
        for (at, len) in [(1, 4096), (4095, 2), (100, 8), (4096, 4096), (8000, 20_000)] {
            let from = at as usize;
            let to = (from + len).min(truth.len());
            if from < to {
                let mut part = vec![0; to - from];
                image.read(PhysAddr(range.start + at), &mut part).unwrap();
                assert!(part == truth[from..to], "{name}: {len} at {at}");
            }
        }
        for at in (range.start..range.end).step_by(PAGE as usize) {
            let from = (at - range.start) as usize;
            let page = &truth[from..from + PAGE as usize];
            assert!(
                !image.known_zero(PhysAddr(at), PAGE) || page.iter().all(|b| *b == 0),
                "{name}"
            );
        }
        let mut byte = [0];
        for at in [range.start.wrapping_sub(1), range.end] {
            let error = image.read(PhysAddr(at), &mut byte).unwrap_err();
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::NotFound,
                "{name}: {at:#x}"
            );
        }
        // A read that extends past the range fails.
        assert!(
            image.read(PhysAddr(range.end - 1), &mut [0; 2]).is_err(),
            "{name}"
        );
    }
}

/// A gzip stream and a zstd frame.
pub(crate) fn compressed(bytes: &[u8]) -> [Vec<u8>; 2] {
    let fast = flate2::Compression::fast();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
    gzip.write_all(bytes).unwrap();
    [gzip.finish().unwrap(), zstd::encode_all(bytes, 1).unwrap()]
}
