//! The contents of a dump of a machine, derived from its memory alone, page by page.

use std::collections::BTreeSet;

use livecore_minidump::PhysAddr;

use super::{Reader, machine, text_of};
use crate::{Machine, Release, Why};

/// `dump_avail` as memory has it.
fn dump_avail(reader: &Reader<'_>) -> Vec<(u64, u64)> {
    let array = reader.symbol("dump_avail");
    (0..)
        .map(|i| (reader.u64(array + i * 16), reader.u64(array + i * 16 + 8)))
        .take_while(|pair| pair.1 != 0)
        .collect()
}

/// Whether the page's `struct vm_page` has PG_NODUMP. `None`: it has no structure.
fn nodump(reader: &Reader<'_>, release: Release, pa: u64) -> Option<bool> {
    // sizeof(struct vm_phys_seg); sizeof(struct vm_page), phys_addr, flags, PG_NODUMP: as read in
    // the headers of these releases.
    let (seg, size, phys_addr, flags, bit) = match release {
        Release::R10 | Release::R12 => (40, 104, 48, 90, 0x80),
        Release::R14 => (48, 104, 48, 94, 0x10),
        Release::R15 | Release::R152 => (48, 88, 32, 78, 0x10),
    };
    let segs = reader.symbol("vm_phys_segs");
    let count = u64::from(reader.u32(reader.symbol("vm_phys_nsegs")));
    (0..count).find_map(|i| {
        let seg = segs + i * seg;
        let (start, end) = (reader.u64(seg), reader.u64(seg + 8));
        (start..end).contains(&pa).then(|| {
            let page = reader.u64(seg + 16) + (pa - start) / 4096 * size;
            assert_eq!(reader.u64(page + phys_addr), pa, "vm_page.phys_addr");
            let mut byte = [0];
            reader.read(page + flags, &mut byte);
            byte[0] & bit != 0
        })
    })
}

/// The kernel's own procedure (minidumpsys), on the emulated memory.
pub(super) fn dumped(machine: &Machine) -> BTreeSet<u64> {
    let reader = Reader::new(machine);
    let avail = dump_avail(&reader);
    let limit = reader.u64(reader.symbol("dmaplimit"));
    let release = machine.truth().release;
    let dumpable = |pa: u64| {
        avail.iter().any(|(s, e)| (*s..*e).contains(&pa))
            && pa < limit
            && nodump(&reader, release, pa) != Some(true)
    };
    let mut pages = BTreeSet::new();

    // The bits.
    let bitmap = reader.u64(reader.symbol("vm_page_dump"));
    let mut bit = 0;
    for (start, end) in &avail {
        for pa in (*start..*end).step_by(4096) {
            let at = if release.is_old() { pa / 4096 } else { bit };
            let mut byte = [0];
            reader.read(bitmap + at / 8, &mut byte);
            if byte[0] >> (at % 8) & 1 == 1 && dumpable(pa) {
                pages.insert(pa);
            }
            bit += 1;
        }
    }
    if !release.is_old() {
        assert_eq!(reader.u64(reader.symbol("vm_page_dump_pages")), bit);
    }

    // The kernel map.
    let root = reader.u64(reader.symbol("KPML4phys"));
    let entry = |table: u64, i: u64| reader.phys_u64((table & 0x000f_ffff_ffff_f000) + i * 8);
    let nkpt = u64::from(reader.u32(reader.symbol("nkpt")));
    let end =
        (0xffff_ffff_8000_0000 + nkpt * (2 << 20)).max(reader.u64(reader.symbol("kernel_vm_end")));
    let mut va = 0xffff_fe00_0000_0000u64;
    while va < end {
        let pdp = entry(root, va >> 39 & 511);
        let pdpe = if pdp & 1 == 1 {
            entry(pdp, va >> 30 & 511)
        } else {
            0
        };
        if pdpe & 0x81 == 0x81 {
            let base = pdpe & 0x000f_ffff_c000_0000;
            pages.extend(
                (base..base + (1 << 30))
                    .step_by(4096)
                    .filter(|pa| dumpable(*pa)),
            );
        } else if pdpe & 1 == 1 {
            for i in 0..512 {
                let pde = entry(pdpe, i);
                if pde & 0x81 == 0x81 {
                    let base = pde & 0x000f_ffff_ffe0_0000;
                    pages.extend(
                        (base..base + (2 << 20))
                            .step_by(4096)
                            .filter(|p| dumpable(*p)),
                    );
                } else if pde & 1 == 1 {
                    let table = pde & 0x000f_ffff_ffff_f000;
                    if dumpable(table) {
                        pages.insert(table);
                    }
                    for j in 0..512 {
                        let pte = entry(table, j);
                        let pa = pte & 0x000f_ffff_ffff_f000;
                        if pte & 1 == 1 && dumpable(pa) {
                            pages.insert(pa);
                        }
                    }
                }
            }
        }
        va = va.wrapping_add(1 << 30);
        if va == 0 {
            break;
        }
    }
    pages
}

#[test]
fn the_kernels_procedure_finds_the_expected_pages() {
    for name in [
        "tiny",
        "running",
        "relocated",
        "old-12.1",
        "old-10.4",
        "nodump",
        "giant",
    ] {
        let machine = machine(&text_of(name));
        let expected: BTreeSet<u64> = machine
            .truth()
            .dumped
            .iter()
            .flat_map(|run| (run.pa.0..run.pa.0 + run.len).step_by(4096))
            .collect();
        let found = dumped(&machine);
        let missing: Vec<_> = expected.difference(&found).take(4).collect();
        let extra: Vec<_> = found.difference(&expected).take(4).collect();
        assert!(
            expected == found,
            "{name}: missing {missing:x?}, extra {extra:x?}"
        );
    }
}

#[test]
fn page_flags_and_the_direct_map_matter() {
    let machine = machine(&text_of("nodump"));
    let truth = machine.truth();
    let len = |why| {
        let runs = truth.dumped.iter().filter(|run| run.why == why);
        runs.map(|run| run.len).sum::<u64>()
    };
    let nodump: u64 = truth
        .nodump
        .iter()
        .map(|range| range.end.0 - range.start.0)
        .sum();
    assert_eq!(nodump, 16 << 20);
    assert!(
        len(Why::Bit) >= 2 << 20,
        "pages only the direct map reaches"
    );
    assert!(len(Why::Mapped) >= 4 << 20);
    assert!(len(Why::PageTable) > 0);
    // None of them is in the dump, though half of them are mapped.
    let mapped = truth.nodump.iter().filter(|range| {
        truth
            .mappings
            .iter()
            .any(|m| m.pa <= range.start && range.end <= PhysAddr(m.pa.0 + m.len))
    });
    assert!(mapped.count() * 3 > truth.nodump.len());
}
