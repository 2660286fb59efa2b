//! Recipes of random machines for property tests.
//!
//! Architecture, version and seed determine a machine, so a failure can be repeated from its seed.
//! Memory consists of ranges with holes between them, some a single page. The kernel map has small
//! and large pages that point into ranges, into holes and at devices. A few pages are mapped
//! but not saved.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::random::Random;

/// An architecture, format version and page size.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Name of the architecture in recipes.
    pub architecture: &'static str,
    /// Version of the minidump format.
    pub version: u32,
    /// Page size in bytes.
    pub page_size: u64,
    /// Sizes of large mappings in the kernel map; empty if the format has only pages.
    pub large: &'static [u64],
    /// Radix instead of hashed page tables (powerpc64).
    pub radix: bool,
    /// First address of the kernel map in the recipe.
    base: u64,
    /// Physical addresses stay below this.
    memory: u64,
}

const MIB: u64 = 1 << 20;

/// Every architecture, version and page size.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    // Name, newest version, first with dump_avail, large mappings, base, memory.
    type Row = (&'static str, u32, u32, &'static [u64], u64, u64);
    const ROWS: &[Row] = &[
        ("amd64", 3, 3, &[2 * MIB], 0xffff_ffff_8000_0000, 1 << 46),
        ("arm64", 3, 2, &[2 * MIB], 0xffff_0000_0000_0000, 1 << 44),
        ("riscv64", 2, 2, &[2 * MIB], 0xffff_ffc0_0000_0000, 1 << 37),
        ("i386", 2, 2, &[4 * MIB], 0x80_0000, 1 << 32),
        ("i386pae", 2, 2, &[2 * MIB], 0x40_0000, 1 << 36),
        ("arm", 2, 2, &[1 << 16, MIB], 0xc000_0000, 1 << 32),
        (
            "powerpc64",
            2,
            2,
            &[16 * MIB],
            0xc008_0000_0000_0000,
            1 << 40,
        ),
        (
            "powerpc64le",
            2,
            2,
            &[16 * MIB],
            0xc008_0000_0000_0000,
            1 << 40,
        ),
        ("mips", 2, 2, &[], 0xc000_0000, 1 << 29),
        ("mipsel", 2, 2, &[], 0xc000_0000, 1 << 29),
        ("mips64", 2, 2, &[], 0xc000_0000_0000_0000, 1 << 34),
        ("mips64el", 2, 2, &[], 0xc000_0000_0000_0000, 1 << 34),
    ];
    let mut kinds = Vec::new();
    for (architecture, newest, avail, large, base, memory) in ROWS {
        for version in 1..=*newest {
            // Without dump_avail the bitmap starts at physical 0: keep it small.
            let memory = if version < *avail { 1 << 29 } else { *memory };
            let (architecture, large, base) = (*architecture, *large, *base);
            kinds.push(Kind {
                architecture,
                version,
                page_size: 4096,
                large,
                radix: false,
                base,
                memory,
            });
        }
    }
    kinds.push(Kind {
        architecture: "arm64",
        version: 3,
        page_size: 16384,
        large: &[32 * MIB],
        radix: false,
        base: 0xffff_0000_0000_0000,
        memory: 1 << 46,
    });
    let hashed = kinds
        .iter()
        .filter(|kind| kind.architecture.starts_with("powerpc64"));
    let radix: Vec<Kind> = hashed
        .map(|kind| Kind {
            large: &[2 * MIB],
            radix: true,
            ..*kind
        })
        .collect();
    kinds.extend(radix);
    kinds
}

/// The recipe of machine `seed` of that kind.
#[must_use]
pub fn machine(kind: &Kind, seed: u64) -> String {
    let mut random = Random::new(seed);
    let page = kind.page_size;
    let mut out = format!("minidump {} {}\n", kind.architecture, kind.version);
    let mut say = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{line}");
    };
    if page != 4096 {
        say(format_args!("pagesize {page}"));
    }
    if kind.radix {
        say(format_args!("radix"));
    }
    say(format_args!("kernbase {:#x}", kind.base));
    if kind.architecture == "amd64" {
        // One page directory instead of a real kernel's 2047.
        say(format_args!("kernend {:#x}", kind.base + (1 << 30)));
    }
    let ranges = ranges(kind, &mut random);
    for (start, end) in &ranges {
        say(format_args!("avail {start:#x} {end:#x}"));
    }
    say(format_args!("msgbuf text \"machine {seed}\\n\""));

    // The last range is reserved for page tables.
    if kind.architecture == "amd64" && kind.version > 1 {
        let tables = ranges[ranges.len() - 1].0;
        for i in 0..8 {
            say(format_args!(
                "table {:#x} {:#x}",
                kind.base + i * 2 * MIB,
                tables + i * page
            ));
        }
    }
    let ranges = &ranges[..ranges.len() - 1];
    let mut filled = BTreeSet::new();
    for _ in 0..random.below(24) {
        let pa = inside(ranges, page, &mut random);
        if filled.insert(pa) {
            let content = random.pick(&["own", "zero", "seed", "fill 0xa5"]);
            let number = if content == "seed" {
                format!(" {}", pa >> 12)
            } else {
                String::new()
            };
            say(format_args!("page {pa:#x} {content}{number}"));
        }
    }
    let mut mapped = BTreeSet::new();
    for _ in 0..random.below(48) {
        let va = kind.base + random.below(4096) * page;
        let pa = match random.below(8) {
            0 => random.below(kind.memory / page) * page,
            _ => inside(ranges, page, &mut random),
        };
        if mapped.insert(va) {
            let prot = random.pick(&["r", "rw", "rx", "rwx"]);
            say(format_args!("map {va:#x} {pa:#x} {page} {prot}"));
            if random.one_in(16) {
                say(format_args!("nodump {pa:#x}"));
            }
        }
    }
    // Large pages are above the addresses of the small ones.
    let first = (kind.base + 4096 * page).next_multiple_of(64 * MIB);
    for slot in 0..random.below(4) {
        if kind.large.is_empty() {
            break;
        }
        let size = random.pick(kind.large);
        let va = first + slot * 32 * MIB.max(size / 32);
        let pa = inside(ranges, page, &mut random) / size * size;
        say(format_args!(
            "map {va:#x} {pa:#x} {size} {}",
            random.pick(&["rw", "rx"])
        ));
    }
    let container = random.pick(&["saved", "live", "device"]);
    say(format_args!("container {container}"));
    let codecs = [
        "none",
        "gzip",
        "zstd",
        "pigz",
        "gzip members 30000",
        "zstd frames 16384",
    ];
    // Kernels write the first three; the others come from recompressing saved files.
    let known = if container == "saved" {
        &codecs[..]
    } else {
        &codecs[..3]
    };
    say(format_args!("compress {}", random.pick(known)));
    if kind.architecture == "arm" && container == "live" {
        // The block size is a page, so the section must be a whole number of pages.
        say(format_args!(
            "length pmap = (section.pmap.size + 4095) / 4096 * 4096"
        ));
    }
    out
}

/// Ascending ranges with holes between them; the last has 64 pages.
fn ranges(kind: &Kind, random: &mut Random) -> Vec<(u64, u64)> {
    let page = kind.page_size;
    let count = 2 + random.below(5);
    let step = kind.memory / (count + 1);
    let mut ranges = Vec::new();
    let mut start = random.below(2) * page;
    for i in 0..count {
        let pages = if i + 1 == count {
            64
        } else {
            random.pick(&[1, 1, 2, 9, 63, 64, 65, 130])
        };
        let end = start + pages * page;
        ranges.push((start, end));
        let near = end + (1 + random.below(70)) * page;
        // One step per range keeps all ranges below `memory`.
        let far = (i + 1) * step / (64 * MIB) * (64 * MIB);
        start = if random.one_in(2) {
            near
        } else {
            near.max(far)
        };
    }
    ranges
}

/// A page in a range, with the first and last page more likely than others.
fn inside(ranges: &[(u64, u64)], page: u64, random: &mut Random) -> u64 {
    let (start, end) = random.pick(ranges);
    let pages = (end - start) / page;
    start
        + page
            * match random.below(4) {
                0 => 0,
                1 => pages - 1,
                _ => random.below(pages),
            }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkdump::build_all;

    #[test]
    fn random_machines_of_every_kind_build_below_4_mib() {
        let mut saved = 0;
        for kind in kinds() {
            for seed in 0..20 {
                let text = machine(&kind, seed);
                let built = build_all(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
                assert!(
                    built.bytes.len() < 4 << 20,
                    "{kind:?} {seed}: {:#x}",
                    built.bytes.len()
                );
                saved += built.oracle.unwrap().pages.len();
            }
        }
        assert!(saved > 5000, "only {saved} pages in all machines");
    }

    #[test]
    fn same_seed_gives_the_same_machine() {
        let kind = kinds()[0];
        assert_eq!(machine(&kind, 5), machine(&kind, 5));
        assert_ne!(machine(&kind, 5), machine(&kind, 6));
    }
}
