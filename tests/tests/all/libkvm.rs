//! What libkvm does wrong, done right: one test for each fault that its readers of minidumps are
//! known to have (FreeBSD `lib/libkvm`, and libfbsdvmcore, which is the same code).
//!
//! The dumps come from the independent builder, which shares nothing with the reader.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_minidump::{Dump, KernelMemory, OpenOptions, PhysAddr, ReadError, VirtAddr};
use livecore_tests::mkdump::{self, Built};

fn built(text: &str) -> (Dump, Built) {
    let built = mkdump::build_all(text).unwrap();
    let source = Arc::new(built.bytes.clone());
    let dump = Dump::from_source(source, &OpenOptions::default()).unwrap();
    (dump, built)
}

/// `_kvm_pa_bit_id` looks only at the end of a range: an address in front of one counts back into
/// the bits of the range before, and one in front of the first to a huge number.
#[test]
fn an_address_in_front_of_a_range_is_not_in_the_range_before() {
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
        let right = matches!(answer, Err(ReadError::Hole { at }) if at.0 == hole);
        assert!(right, "{hole:#x}: {answer:?}");
    }
}

/// The bitmap is taken for words of 64 bits in the host's own order.
#[test]
fn bitmaps_of_the_other_byte_order_and_of_32_bit_words_are_read_in_theirs() {
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

/// The accessor of the page-table section is bounded by where the data begins, and so runs over
/// the end of a section that is padded; amd64's takes an entry without looking.
#[test]
fn an_address_behind_the_page_table_section_is_not_mapped() {
    for (text, behind) in [
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
        for va in [behind, behind + 0x1000, behind + 0x1f_f000] {
            let answer = dump.translate(VirtAddr(va));
            let unmapped = matches!(answer, Err(ReadError::NotMapped { .. }));
            assert!(unmapped, "{va:#x}: {answer:?}");
        }
    }
}

/// An entry of a directory that leads to a table outside of the dump is followed to nowhere.
#[test]
fn a_leaf_table_that_is_not_in_the_dump_is_a_hole_and_no_address() {
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
        "not an I/O error: {answer:?}"
    );
}

/// `kvm_walk_pages` notes only the first 4 KiB of a large leaf, and then asks the pages that it
/// has noted, not those that are left, for their direct map; on arm64 and riscv it notes none.
#[test]
fn every_page_is_enumerated_once_with_the_direct_map_s_pages_among_them() {
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

/// Bits above the frame number are taken for part of it.
#[test]
fn memory_types_of_a_riscv_entry_are_no_address() {
    // Svpbmt's IO and Svnapot's bit: 62 and 63.
    let (dump, _) = built(
        "minidump riscv64 2
         avail 0x80000000 0x80010000
         pte 0xffffffc000000000 = 0xc000000020000467",
    );
    let found = dump.translate(VirtAddr(0xffff_ffc0_0000_0010)).unwrap();
    assert_eq!(found, PhysAddr(0x8000_1010));
}

/// The header of powerpc64 is decoded as big endian whatever wrote it: a little-endian kernel's is
/// refused with an unknown version.
#[test]
fn dumps_of_a_little_endian_powerpc64_kernel_open() {
    for version in [1, 2] {
        let (dump, built) = built(&format!(
            "minidump powerpc64le {version}
             avail 0x0 0x40000
             page 0x1000 own
             map 0xc008000000000000 0x1000 4K rw"
        ));
        assert_eq!(dump.minidump().version, version);
        let found = dump.translate(VirtAddr(0xc008_0000_0000_0020)).unwrap();
        assert_eq!(found, PhysAddr(0x1020));
        let mut page = vec![0; 4096];
        dump.read_phys(PhysAddr(0x1000), &mut page).unwrap();
        assert!(page == built.oracle.unwrap().pages[&0x1000]);
    }
}

/// arm's kernel writes its entries unpadded, libkvm expects whole pages: with 1 to 3 MiB over a
/// multiple of 4 every page is found up to 3 KiB too far on.
#[test]
fn arm_s_pages_are_found_behind_entries_that_fill_no_page() {
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

/// The file's length is never looked at: what is missing is read as a short read, or as what the
/// page cache holds.
#[test]
fn a_page_behind_the_end_of_the_file_is_said_to_be_there() {
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

/// A bit behind the last page of `dump_avail` stands for physical page 0 in the kernel and for a
/// magic number in libkvm; here it stands for nothing.
#[test]
fn bits_behind_the_last_range_have_no_address_and_do_not_move_the_pages() {
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

/// `kvm_read2` gives nothing of a read whose later page is not there.
#[test]
fn a_read_that_runs_into_a_hole_keeps_what_it_had_before() {
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

/// Segments of the kernel map are taken to have pages of 4 KiB alone: the entries of a page of
/// 16 MiB in one are passed over.
#[test]
fn large_pages_of_powerpc64_s_kernel_map_translate() {
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
        let behind = dump.translate(VirtAddr(0xc008_0000_0300_0000));
        assert!(matches!(behind, Err(ReadError::NotMapped { .. })));
        let mut walked = BTreeSet::new();
        let end = dump.walk(&mut |mapping| {
            walked.insert((mapping.va.0, mapping.pa.0));
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap().tables_missing, 0);
        let told = built.oracle.unwrap().mapped;
        assert_eq!(walked.len(), 4096);
        assert_eq!(walked, told.iter().map(|m| (m.va, m.pa)).collect());
    }
}
