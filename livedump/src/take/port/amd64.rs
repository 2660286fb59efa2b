//! amd64's minidump.
//!
//! The page-table section contains page directories, one for each GiB; the page tables below them
//! are pages of the dump (`sys/amd64/amd64/minidump_machdep.c`).

use std::ops::{Range, RangeInclusive};

use livecore_defs::amd64;
use livecore_defs::amd64::{NBPDP, NBPDR, NPTEPG, PAGE_SIZE, PTE_SIZE};
use livecore_minidump::mmu::{Entry, Paging};
use livecore_minidump::{Architecture, PhysAddr, VirtAddr};

use super::Port;
use crate::take::error::TakeError;
use crate::take::walk::Walk;

/// The port.
pub(super) struct Amd64;

/// Levels of [`Paging::Amd64`], from the root down.
const PDP: usize = 1;
const PD: usize = 2;
const PT: usize = 3;

impl Port for Amd64 {
    fn arch(&self) -> &'static Architecture {
        &amd64::ARCHITECTURE
    }

    fn versions(&self, _: Paging) -> RangeInclusive<u32> {
        2..=3
    }

    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<VirtAddr>) -> Result<(), TakeError> {
        let mut at = kva.start;
        while at < kva.end {
            match walk.lookup(at, PDP)? {
                Some(found) if found.depth == PDP => match found.entry {
                    Entry::Leaf(frame) => {
                        let start = frame.align_down(NBPDP).0;
                        walk.mark(start..start + NBPDP);
                        walk.push(directory_of_leaf(found.raw))?;
                    }
                    Entry::Table(directory) => page_directory(walk, at, directory)?,
                    Entry::Invalid => walk.push_zero(),
                },
                _ => walk.push_zero(),
            }
            match at.checked_add(NBPDP) {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(())
    }
}

/// Processes one GiB of the kernel map: marks its pages and page tables, and adds a page to the
/// section.
fn page_directory(
    walk: &mut Walk<'_, '_>,
    at: VirtAddr,
    directory: PhysAddr,
) -> Result<(), TakeError> {
    let Some(page) = walk.table(at, directory)? else {
        walk.push_zero();
        return Ok(());
    };
    for entry in walk.decode(PD, &page).collect::<Vec<_>>() {
        match entry {
            Entry::Invalid => {}
            Entry::Leaf(frame) => {
                let start = frame.align_down(NBPDR).0;
                walk.mark(start..start + NBPDR);
            }
            Entry::Table(table) => {
                walk.mark(table.0..table.0 + PAGE_SIZE);
                if let Some(page) = walk.table(at, table)? {
                    walk.mark_leaves(PT, &page);
                }
            }
        }
    }
    walk.push_table(directory, page)
}

/// The page directory for a 1 GiB leaf: entries for 2 MiB leaves, derived from the leaf's entry.
fn directory_of_leaf(entry: u64) -> Box<[u8]> {
    let mut page = vec![0; PAGE_SIZE as usize];
    for (index, slot) in (0..NPTEPG).zip(page.chunks_exact_mut(PTE_SIZE)) {
        // The frame of a 1 GiB leaf has space for 511 additions; the bit above, NX, may be set.
        slot.copy_from_slice(&entry.wrapping_add(index * NBPDR).to_le_bytes());
    }
    page.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gib_leaf_becomes_512_leaves_of_2_mib() {
        let page = directory_of_leaf(0x8000_0001_4000_0083);
        let entry = |i: usize| u64::from_le_bytes(page[8 * i..8 * i + 8].try_into().unwrap());
        assert_eq!(entry(0), 0x8000_0001_4000_0083);
        assert_eq!(entry(1), 0x8000_0001_4020_0083);
        assert_eq!(entry(511), 0x8000_0001_7fe0_0083);
    }
}
