//! Properties of translation on random machines of every architecture and version.
//!
//! Kind and seed determine a machine (`livecore_tests::machines`), and a failure prints both. The
//! sample is small and fixed; `LIVECORE_SEEDS=1000` tests 1000 machines of each kind, from seed
//! `LIVECORE_FIRST_SEED`:
//!
//! ```text
//! LIVECORE_SEEDS=1000 cargo test --release -p livecore-tests --test all -- translation
//! ```

use std::collections::BTreeMap;

use livecore_minidump::{Dump, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_tests::machines::{self, Kind, machine};
use livecore_tests::mkdump::{self, Oracle};

use crate::dumps::open;

/// Machines of each kind without `LIVECORE_SEEDS`.
const SAMPLE: u64 = 3;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

/// Calls `check` with the name and contents of every machine of the sample.
#[allow(
    clippy::print_stderr,
    reason = "the test harness prints the seeds with a failure"
)]
fn for_every_machine(check: impl Fn(&str, &Kind, &Dump, &Oracle)) {
    let first = number("LIVECORE_FIRST_SEED").unwrap_or(1000);
    let count = number("LIVECORE_SEEDS").unwrap_or(SAMPLE);
    eprintln!("seeds {first} to {}", first + count.max(1) - 1);
    let mut machines = 0;
    for kind in machines::kinds() {
        for seed in first..first + count {
            let name = format!("{} version {} seed {seed}", kind.architecture, kind.version);
            let built = mkdump::build_all(&machine(&kind, seed)).unwrap();
            check(&name, &kind, &open(&built.bytes), &built.oracle.unwrap());
            machines += 1;
        }
    }
    assert!(machines >= 26 * count, "{machines} machines");
}

fn is_unmapped(answer: &Result<PhysAddr, ReadError>) -> bool {
    matches!(answer, Err(ReadError::NotMapped { .. }))
}

/// Tests every page of the kernel map up to the last mapping and some after it.
#[test]
fn kernel_map_pages_translate_to_their_frame_or_are_not_mapped() {
    for_every_machine(|name, kind, dump, oracle| {
        let size = oracle.page_size;
        let mapped: BTreeMap<u64, u64> = oracle.mapped.iter().map(|m| (m.va, m.pa)).collect();
        let last = mapped.keys().last().map_or(oracle.kernbase, |va| *va);
        let end = last.saturating_add(64 * size).max(oracle.kernbase);
        let mut va = oracle.kernbase;
        let mut met = 0;
        while va < end {
            let answer = dump.translate(VirtAddr(va + size - 1));
            match mapped.get(&va) {
                Some(pa) => {
                    let found = answer.unwrap_or_else(|e| panic!("{name}: {va:#x}: {e}"));
                    assert_eq!(found, PhysAddr(pa + size - 1), "{name}: {va:#x}");
                    met += 1;
                }
                None => assert!(is_unmapped(&answer), "{name}: {va:#x}: {answer:?}"),
            }
            va += size;
        }
        assert_eq!(met, mapped.len(), "{name}: mappings not tested");
        // A large mapping is more than one page in the oracle.
        let large = oracle.mapped.iter().filter(|m| m.large).count() as u64;
        let least = kind.large.first().map_or(1, |bytes| bytes / size);
        assert!(large.is_multiple_of(least), "{name}: {large} pages");
    });
}

#[test]
fn addresses_outside_kernel_map_and_direct_map_are_not_mapped() {
    for_every_machine(|name, kind, dump, oracle| {
        let (base, end, _) = oracle.dmap;
        for back in [1, oracle.page_size, 1 << 20, oracle.kernbase / 2] {
            let va = oracle.kernbase - back;
            // mips hardware translates some segments without page tables.
            if (base..end).contains(&va) || kind.architecture.starts_with("mips") {
                continue;
            }
            let answer = dump.translate(VirtAddr(va));
            assert!(is_unmapped(&answer), "{name}: {va:#x}: {answer:?}");
        }
        for va in [base.wrapping_sub(1), end] {
            if base == end || va >= oracle.kernbase {
                continue;
            }
            let answer = dump.translate(VirtAddr(va));
            assert!(is_unmapped(&answer), "{name}: {va:#x}: {answer:?}");
        }
    });
}

#[test]
fn pages_between_the_ranges_of_dump_avail_are_holes() {
    for_every_machine(|name, _, dump, oracle| {
        let size = oracle.page_size;
        let inside = |pa: u64| oracle.avail.iter().any(|(s, e)| (*s..*e).contains(&pa));
        let mut page = vec![0; size as usize];
        for (start, end) in &oracle.avail {
            let holes = [
                start.checked_sub(1),
                start.checked_sub(size),
                start.checked_sub(40 * size),
                Some(*end),
                Some(end + 40 * size),
            ];
            for pa in holes.into_iter().flatten().filter(|pa| !inside(*pa)) {
                let answer = dump.read_phys(PhysAddr(pa), &mut page[..1]);
                let hole = matches!(answer, Err(ReadError::Hole { .. }));
                assert!(hole, "{name}: {pa:#x}: {answer:?}");
                assert!(!oracle.pages.contains_key(&(pa / size * size)), "{name}");
            }
        }
    });
}

#[test]
fn last_page_is_readable_and_a_read_beyond_it_fails() {
    for_every_machine(|name, _, dump, oracle| {
        let Some((pa, content)) = oracle.pages.iter().next_back() else {
            return;
        };
        let size = oracle.page_size;
        let mut page = vec![0; size as usize];
        dump.read_phys(PhysAddr(*pa), &mut page).unwrap();
        assert!(page == *content, "{name}: page {pa:#x}");
        let mut two = [0; 2];
        let answer = dump.read_phys(PhysAddr(pa + size - 1), &mut two);
        assert!(answer.is_err(), "{name}: read beyond page {pa:#x}");
    });
}

/// One page is saved, at bits of three bitmap words of 32 and 64 bits in either byte order.
#[test]
fn bit_of_a_saved_page_is_the_only_bit_set() {
    for kind in machines::kinds() {
        let page = kind.page_size;
        for bit in (0..136).step_by(9).chain([31, 32, 63, 64]) {
            // One page directory instead of a real kernel's 2047.
            let short = match kind.architecture {
                "amd64" => "kernbase 0xffffffff80000000\nkernend 0xffffffffc0000000",
                _ => "",
            };
            let text = format!(
                "minidump {} {}\npagesize {page}\n{short}\navail 0x0 {:#x}\npage {:#x} own",
                kind.architecture,
                kind.version,
                136 * page,
                bit * page,
            );
            let built = mkdump::build_all(&text).unwrap();
            let name = format!("{} version {} bit {bit}", kind.architecture, kind.version);
            let dump = open(&built.bytes);
            let oracle = built.oracle.unwrap();
            assert_eq!(oracle.pages.len(), 1, "{name}");
            let saved: Vec<u64> = dump.bitmap().iter().collect();
            assert_eq!(saved, [bit], "{name}");
            let mut there = vec![0; page as usize];
            dump.read_phys(PhysAddr(bit * page), &mut there).unwrap();
            assert!(there == oracle.pages[&(bit * page)], "{name}");
        }
    }
}
