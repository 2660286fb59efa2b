//! The hashed page table of powerpc64.
//!
//! Big-endian entries of 16 bytes in groups of eight. A page's virtual segment id and its number in
//! the segment give the two groups that may contain its entry (FreeBSD
//! `sys/powerpc/aim/mmu_oea64.c`, `moea64_native.c`).

use super::error::{BuildError, Result};
use super::ranges::Ranges;
use super::recipe::{Mapping, Recipe};
use super::tables::Pmap;

/// Size of a large page.
const LARGE: u64 = 16 << 20;
/// First address of the kernel map, whose segments have small pages.
const KERNEL_MAP: u64 = 0xc008_0000_0000_0000;
/// Entries per group.
const GROUP: usize = 8;

/// Builds the table for the recipe's mappings: 4 KiB and 16 MiB pages.
pub(crate) fn build(recipe: &Recipe, avail: &Ranges) -> Result<Pmap> {
    let groups = recipe.hash_groups;
    let mut bytes = vec![0u8; groups as usize * GROUP * 16];
    let mut found = Vec::new();
    for mapping in &recipe.maps {
        if mapping.size == LARGE && mapping.va >= KERNEL_MAP {
            insert_pieces(&mut bytes, groups, mapping)?;
        } else {
            insert(&mut bytes, groups, mapping)?;
        }
        let pages = (0..mapping.size >> 12).map(|i| mapping.pa + (i << 12));
        found.extend(pages.filter(|pa| avail.contains(*pa)));
    }
    Ok(Pmap { bytes, found })
}

/// The kernel's virtual segment id of the 256 MiB segment that contains `va`.
pub(crate) fn vsid(va: u64) -> u64 {
    let esid = va >> 28;
    let hash = u128::from((esid << 8) | (esid >> 28)) * 0x13bb;
    (hash as u64 & ((1 << 36) - 1)) | 1 << 36
}

/// Inserts a large page into a segment of small pages: one entry per small page, each with the
/// address of the large page and, in the eight bits above the page offset, its size encoding
/// (Power ISA, `L` and `LP`).
fn insert_pieces(bytes: &mut [u8], groups: u64, m: &Mapping) -> Result<()> {
    for offset in (0..m.size).step_by(0x1000) {
        let va = m.va + offset;
        let (id, page) = (vsid(va), (va & 0x0fff_ffff) >> 12);
        let hi = id << 12 | (page >> 11) << 7 | 1 << 2 | 1;
        put_entry(bytes, groups, (id, page), (hi, m.pa | 0x38000), m)?;
    }
    Ok(())
}

fn insert(bytes: &mut [u8], groups: u64, m: &Mapping) -> Result<()> {
    let shift = match m.size {
        0x1000 => 12,
        0x100_0000 => 24,
        found => {
            let expected = "4K or 16M".to_owned();
            return Err(BuildError::Value {
                line: m.line,
                what: "mapping size",
                found,
                expected,
            });
        }
    };
    let large = shift == 24;
    let id = vsid(m.va);
    let page = (m.va & 0x0fff_ffff) >> shift;
    let index = if large { page << 1 } else { page >> 11 };
    let hi = id << 12 | index << 7 | u64::from(large) << 2 | 1;
    put_entry(bytes, groups, (id, page), (hi, m.pa), m)
}

/// Writes the entry of page `page` of virtual segment `id` into one of its two groups.
fn put_entry(
    bytes: &mut [u8],
    groups: u64,
    (id, page): (u64, u64),
    (hi, lo): (u64, u64),
    m: &Mapping,
) -> Result<()> {
    let hash = (id & ((1 << 39) - 1)) ^ page;
    let second = !hash & ((1 << 39) - 1);
    for (hash, hid) in [(hash, 0u64), (second, 2)] {
        let first = (hash & (groups - 1)) as usize * GROUP;
        for slot in first..first + GROUP {
            let entry = &mut bytes[slot * 16..slot * 16 + 16];
            if entry[7] & 1 == 0 {
                entry[..8].copy_from_slice(&(hi | hid).to_be_bytes());
                entry[8..].copy_from_slice(&lo.to_be_bytes());
                return Ok(());
            }
        }
    }
    Err(BuildError::Conflict {
        line: m.line,
        what: "hash group",
        at: m.va,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with big integers from the kernel's `va_to_vsid`.
    #[test]
    fn kernel_segment_ids_match_va_to_vsid() {
        assert_eq!(vsid(0xc000_0000_0000_0000), 0x10000ecc40);
        assert_eq!(vsid(0xc008_0000_0000_0000), 0x1d800ecc40);
        assert_eq!(vsid(0xc008_0000_1fff_ffff), 0x1d80228740);
    }
}
