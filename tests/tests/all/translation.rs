//! Laws of translation, on random machines of every architecture and version.
//!
//! A machine follows from its kind and its seed (`livecore_tests::machines`), the builder shares
//! nothing with the code under test, and a failure names both. The sample is small and fixed;
//! `LIVECORE_SEEDS=1000` takes as many machines of each kind, and `LIVECORE_FIRST_SEED` begins
//! elsewhere:
//!
//! ```text
//! LIVECORE_SEEDS=1000 cargo test --release -p livecore-tests --test translation
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use livecore_minidump::{Dump, KernelMemory, OpenOptions, PhysAddr, ReadError, VirtAddr};
use livecore_tests::machines::{self, Kind, machine};
use livecore_tests::mkdump::{self, Oracle};

/// Machines of each kind if nobody asks for more.
const SAMPLE: u64 = 3;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

fn open(bytes: Vec<u8>) -> Dump {
    Dump::from_source(Arc::new(bytes), &OpenOptions::default()).unwrap()
}

#[allow(
    clippy::print_stderr,
    reason = "the harness shows it with a failure: the seeds are how it is repeated"
)]
fn tell(first: u64, count: u64) {
    eprintln!("seeds {first} to {}", first + count.max(1) - 1);
}

/// Holds `law` against every machine of the sample; it is told what to call the machine.
fn for_every_machine(law: impl Fn(&str, &Kind, &Dump, &Oracle)) {
    let first = number("LIVECORE_FIRST_SEED").unwrap_or(1000);
    let count = number("LIVECORE_SEEDS").unwrap_or(SAMPLE);
    tell(first, count);
    let mut machines = 0;
    for kind in machines::kinds() {
        for seed in first..first + count {
            let name = format!("{} version {} seed {seed}", kind.architecture, kind.version);
            let built = mkdump::build_all(&machine(&kind, seed)).unwrap();
            law(&name, &kind, &open(built.bytes), &built.oracle.unwrap());
            machines += 1;
        }
    }
    assert!(machines >= 26 * count, "{machines} machines");
}

fn is_unmapped(answer: &Result<PhysAddr, ReadError>) -> bool {
    matches!(answer, Err(ReadError::NotMapped { .. }))
}

/// Every page of the kernel map up to the last mapping and some beyond, mapped or not: a superpage
/// is at its frame page by page, and nothing that the machine does not map translates.
#[test]
fn every_address_of_the_kernel_map_is_at_its_frame_or_nowhere() {
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
        assert_eq!(met, mapped.len(), "{name}: mappings that were not met");
        // A large mapping is more than one page in the oracle.
        let large = oracle.mapped.iter().filter(|m| m.large).count() as u64;
        let least = kind.large_sizes().first().map_or(1, |bytes| bytes / size);
        assert!(large.is_multiple_of(least), "{name}: {large} pages");
    });
}

#[test]
fn nothing_below_the_kernel_map_and_outside_of_the_direct_map_translates() {
    for_every_machine(|name, kind, dump, oracle| {
        let (base, end, _) = oracle.dmap;
        for back in [1, oracle.page_size, 1 << 20, oracle.kernbase / 2] {
            let va = oracle.kernbase - back;
            // mips translates segments of addresses without any table.
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

/// The page in front of a range is a hole even where an index computed without looking at the
/// range's start would be that of a page that is saved.
#[test]
fn what_lies_between_the_ranges_of_dump_avail_is_a_hole() {
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
fn the_last_page_is_read_to_its_last_byte_and_the_range_ends_there() {
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
        assert!(answer.is_err(), "{name}: behind page {pa:#x}");
    });
}

/// One page is saved, and it is the one whose bit is set: over three words of the bitmap, in words
/// of 32 and 64 bits and in either byte order.
#[test]
fn each_bit_of_a_word_stands_for_its_own_page_in_either_byte_order() {
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
            let dump = open(built.bytes);
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
