//! Regression tests for the known faults in libkvm's minidump readers (FreeBSD `lib/libkvm`;
//! libfbsdvmcore has the same code). Each test names the fault and asserts the correct result.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use livecore_minidump::{Dump, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_tests::mkdump::{self, Built};

use crate::dumps::open;

fn built(text: &str) -> (Dump, Built) {
    let built = mkdump::build_all(text).unwrap();
    (open(&built.bytes), built)
}

/// libkvm: `_kvm_pa_bit_id` checks only the end of a range. An address before a range maps to the
/// bits of the previous range, one before the first range to a huge number.
#[test]
fn addresses_between_ranges_are_holes() {
    let (dump, _) = built(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         kernend 0xffffffffc0000000
         avail 0x10000 0x20000
         avail 0x100000 0x110000
         pages 0x10000 16 seed 1
         pages 0x100000 16 seed 100",
    );
    let mut byte = [0];
    // Bit 16 less one page is bit 15: the page at 0x1f000, which is saved.
    for hole in [0xff000, 0xf0000, 0xf000, 0, 0x20000, 0x110000] {
        let answer = dump.read_phys(PhysAddr(hole), &mut byte);
        let is_hole = matches!(answer, Err(ReadError::Hole { at }) if at.0 == hole);
        assert!(is_hole, "{hole:#x}: {answer:?}");
    }
}

/// libkvm: the bitmap is read as 64-bit words in the host's byte order.
#[test]
fn bitmaps_are_read_in_the_word_size_and_byte_order_of_the_dump() {
    for architecture in ["powerpc64", "mips", "mips64", "mipsel", "i386", "arm"] {
        let (dump, built) = built(&format!(
            "minidump {architecture} 2
             avail 0x0 0x80000
             page 0x1000 own
             page 0x21000 own
             page 0x47000 own"
        ));
        assert_eq!(dump.bitmap().iter().collect::<Vec<_>>(), [1, 0x21, 0x47]);
        for (pa, content) in built.oracle.unwrap().pages {
            let mut page = vec![0; 4096];
            dump.read_phys(PhysAddr(pa), &mut page).unwrap();
            assert!(page == content, "{architecture}: {pa:#x}");
        }
    }
}

/// libkvm: page-table lookups are bounded by the start of the data, which is after the padding of
/// the section; those of amd64 are not bounded at all.
#[test]
fn addresses_after_the_page_table_section_are_not_mapped() {
    for (text, end) in [
        (
            "minidump amd64 3
             kernbase 0xffffffff80000000
             kernend 0xffffffffc0000000
             avail 0x0 0x10000
             map 0xffffffff80000000 0x1000 4K rw",
            0xffff_ffff_c000_0000_u64,
        ),
        (
            "minidump i386 2
             kernbase 0x800000
             avail 0x0 0x10000
             map 0x800000 0x1000 4K rw
             page 0x0 fill 0xff",
            0xc0_0000,
        ),
        (
            "minidump riscv64 2
             avail 0x80000000 0x80010000
             map 0xffffffc000000000 0x80001000 4K rw
             page 0x80000000 fill 0xff",
            0xffff_ffc0_0020_0000,
        ),
    ] {
        let (dump, built) = built(text);
        let first = built.oracle.unwrap().mapped[0];
        assert_eq!(
            dump.translate(VirtAddr(first.va)).unwrap(),
            PhysAddr(first.pa)
        );
        for va in [end, end + 0x1000, end + 0x1f_f000] {
            let answer = dump.translate(VirtAddr(va));
            let unmapped = matches!(answer, Err(ReadError::NotMapped { .. }));
            assert!(unmapped, "{va:#x}: {answer:?}");
        }
    }
}

/// libkvm: a directory entry is followed to a table that is not in the dump.
#[test]
fn missing_leaf_table_is_an_error_but_not_an_io_error() {
    let (dump, _) = built(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         kernend 0xffffffffc0000000
         avail 0x0 0x10000
         page 0x1000 own
         pde 0xffffffff80200000 = 0x7fff0063",
    );
    let answer = dump.translate(VirtAddr(0xffff_ffff_8020_0000));
    assert!(answer.is_err(), "{answer:?}");
    assert!(
        !matches!(answer, Err(ReadError::Io { .. })),
        "I/O error: {answer:?}"
    );
}

/// libkvm: `kvm_walk_pages` records only the first 4 KiB of a large page, then reports the direct
/// map of the recorded pages instead of the others; on arm64 and riscv it records none.
#[test]
fn pages_are_enumerated_once_including_those_only_in_the_direct_map() {
    for (text, frames) in [
        (
            "minidump amd64 3
             kernbase 0xffffffff80000000
             kernend 0xffffffffc0000000
             avail 0x200000 0x400000
             avail 0x800000 0x810000
             map 0xffffffff80200000 0x200000 2M rx
             pages 0x800000 4 seed 3",
            512 + 4,
        ),
        (
            "minidump arm64 2
             dmapphys 0x40000000
             avail 0x40000000 0x40400000
             map 0xffff000000000000 0x40000000 2M rx
             pages 0x40200000 4 seed 3",
            512 + 4,
        ),
        (
            "minidump riscv64 2
             dmapphys 0x80000000
             avail 0x80000000 0x80400000
             map 0xffffffc000000000 0x80000000 2M rx
             pages 0x80200000 4 seed 3",
            512 + 4,
        ),
    ] {
        let (dump, built) = built(text);
        let oracle = built.oracle.unwrap();
        let pages = dump.pages(16).unwrap();
        let found: Vec<u64> = pages.iter().map(|page| page.pa.0).collect();
        let once: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(found.len(), frames, "{text}");
        assert_eq!(once.len(), frames, "{text}");
        for page in pages.iter() {
            assert!(page.direct.is_some(), "{}: no direct map", page.pa);
            let large = oracle.mapped.iter().any(|m| m.pa == page.pa.0);
            assert_eq!(!page.kernel.is_empty(), large, "{}", page.pa);
        }
    }
}

/// libkvm: bits above the frame number are taken as part of it.
#[test]
fn high_bits_of_a_riscv_entry_are_not_part_of_the_address() {
    // Bit 62 is IO of Svpbmt, bit 63 is Svnapot.
    let (dump, _) = built(
        "minidump riscv64 2
         avail 0x80000000 0x80010000
         pte 0xffffffc000000000 = 0xc000000020000467",
    );
    let found = dump.translate(VirtAddr(0xffff_ffc0_0000_0010)).unwrap();
    assert_eq!(found, PhysAddr(0x8000_1010));
}

/// libkvm: powerpc64 headers are always decoded as big endian, so dumps of little-endian kernels
/// are rejected with an unknown version.
#[test]
fn dumps_of_a_little_endian_powerpc64_kernel_open() {
    for version in [1, 2] {
        let (dump, built) = built(&format!(
            "minidump powerpc64le {version}
             avail 0x0 0x40000
             page 0x1000 own
             map 0xc008000000000000 0x1000 4K rw"
        ));
        assert_eq!(dump.header().version, version);
        let found = dump.translate(VirtAddr(0xc008_0000_0000_0020)).unwrap();
        assert_eq!(found, PhysAddr(0x1020));
        let mut page = vec![0; 4096];
        dump.read_phys(PhysAddr(0x1000), &mut page).unwrap();
        assert!(page == built.oracle.unwrap().pages[&0x1000]);
    }
}

/// libkvm: on arm the entries are expected to be padded to a page, which the kernel does not do.
/// If the kernel map is not a multiple of 4 MiB, data is read up to 3 KiB too far.
#[test]
fn arm_pages_are_read_after_unpadded_page_table_entries() {
    for mib in 1..=8_u64 {
        let (dump, built) = built(&format!(
            "minidump arm 2
             kernend {:#x}
             avail 0x0 0x40000
             page 0x1000 own
             page 0x3f000 seed 7
             map 0xc0000000 0x1000 4K rw",
            0xc000_0000 + mib * (1 << 20)
        ));
        for (pa, content) in built.oracle.unwrap().pages {
            let mut page = vec![0; 4096];
            dump.read_phys(PhysAddr(pa), &mut page).unwrap();
            assert!(page == content, "{mib} MiB: {pa:#x}");
        }
    }
}

/// libkvm: the file's length is not checked. Missing pages are short reads, or the contents of the
/// page cache.
#[test]
fn pages_after_the_end_of_a_truncated_file_are_beyond_end_errors() {
    let (dump, _) = built(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         kernend 0xffffffffc0000000
         avail 0x0 0x10000
         pages 0x1000 4 seed 1
         truncate file file.size - 6000",
    );
    let mut page = vec![0; 4096];
    for pa in [0x1000, 0x2000] {
        dump.read_phys(PhysAddr(pa), &mut page).unwrap();
    }
    for pa in [0x3000, 0x4000] {
        let answer = dump.read_phys(PhysAddr(pa), &mut page);
        let beyond = matches!(answer, Err(ReadError::BeyondEnd { .. }));
        assert!(beyond, "{pa:#x}: {answer:?}");
    }
}

/// A bit after the last page of `dump_avail` is physical page 0 to the kernel and a magic number to
/// libkvm. It has no address.
#[test]
fn bits_after_the_last_range_have_no_address_and_do_not_move_pages() {
    let (dump, built) = built(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         kernend 0xffffffffc0000000
         avail 0x1000 0x9000
         avail 0x20000 0x2a000
         pages 0x1000 2 seed 1
         page 0x29000 seed 9
         garbage 18 21 pages",
    );
    let oracle = built.oracle.unwrap();
    for pa in [0x1000, 0x2000, 0x29000] {
        let mut page = vec![0; 4096];
        dump.read_phys(PhysAddr(pa), &mut page).unwrap();
        assert!(page == oracle.pages[&pa], "{pa:#x}");
    }
    let mut byte = [0];
    assert!(dump.read_phys(PhysAddr(0), &mut byte).is_err());
    assert_eq!(dump.dump_avail().addr_of(18), None);
    let mut seen = 0;
    let end = dump.walk(&mut |_| {
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((end.unwrap().tables_missing, seen), (0, 0));
}

/// libkvm: `kvm_read2` returns nothing if a later page of the read is missing.
#[test]
fn partial_read_returns_the_bytes_before_a_hole() {
    let (dump, built) = built(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         kernend 0xffffffffc0000000
         avail 0x1000 0x9000
         pages 0x1000 2 seed 1",
    );
    let pages = built.oracle.unwrap().pages;
    let mut buf = vec![0xee; 0x3000];
    let (done, answer) = dump.read_phys_part(PhysAddr(0x1800), &mut buf);
    assert!(matches!(answer, Err(ReadError::Hole { at }) if at.0 == 0x3000));
    assert_eq!(done, 0x1800);
    assert!(buf[..0x800] == pages[&0x1000][0x800..]);
    assert!(buf[0x800..0x1800] == pages[&0x2000][..]);
    assert!(buf[0x1800..].iter().all(|byte| *byte == 0xee));
}

/// libkvm: segments of the kernel map are assumed to have only 4 KiB pages, so the entries of a
/// 16 MiB page are skipped.
#[test]
fn powerpc64_large_pages_in_the_kernel_map_are_translated() {
    for architecture in ["powerpc64", "powerpc64le"] {
        let (dump, built) = built(&format!(
            "minidump {architecture} 2
             avail 0x1000000 0x2000000
             map 0xc008000002000000 0x1000000 16M rw
             page 0x1000000 own
             page 0x1ffe000 own"
        ));
        for (va, pa) in [
            (0xc008_0000_0200_0000_u64, 0x100_0000_u64),
            (0xc008_0000_02ff_e123, 0x1ff_e123),
        ] {
            assert_eq!(dump.translate(VirtAddr(va)).unwrap(), PhysAddr(pa));
        }
        let after = dump.translate(VirtAddr(0xc008_0000_0300_0000));
        assert!(matches!(after, Err(ReadError::NotMapped { .. })));
        let mut walked = BTreeSet::new();
        let end = dump.walk(&mut |mapping| {
            walked.insert((mapping.va.0, mapping.pa.0));
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap().tables_missing, 0);
        let mapped = built.oracle.unwrap().mapped;
        assert_eq!(walked.len(), 4096);
        assert_eq!(walked, mapped.iter().map(|m| (m.va, m.pa)).collect());
    }
}
