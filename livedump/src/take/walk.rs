//! The walk through the kernel map that a dump begins with (`minidumpsys` of amd64).
//!
//! What the kernel does twice, to count and to write, is done once here: the pages that the walk
//! reaches and the page-table section come from the same reading of the tables.

use std::ops::Range;

use minidump::defs::amd64::{
    NBPDP, NBPDR, NPTEPG, PAGE_SIZE, PDPSHIFT, PG_FRAME, PG_PS, PG_PS_FRAME, PG_PS_PDP_FRAME, PG_V,
    PML4SHIFT, PTE_SIZE,
};
use minidump::{PmapPages, ReadError, VirtAddr};

use super::TakeError;
use super::dumpable::Dumpable;
use super::marks::Marks;
use super::view::{MachineView, Table};

/// What the walk found beside the pages that it marked.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The page-table section: a page directory per GiB of the kernel map.
    pub(super) pmap: PmapPages,
    /// Pages of that section, empty ones included.
    pub(super) pmap_pages: u64,
    /// Tables that are outside of memory, and so as good as empty.
    pub(super) lost_tables: u64,
}

/// Walks the kernel map from the start of `kva` in steps of 1 GiB while below its end, and marks
/// every page that it reaches and every leaf table.
pub(super) fn walk(
    view: &MachineView,
    kva: Range<u64>,
    dumpable: &mut Dumpable<'_>,
    marks: &mut Marks,
) -> Result<Walked, TakeError> {
    let mut walked = Walked::default();
    let mut pdp: Option<(u64, Option<Box<Table>>)> = None;
    let mut at = kva.start;
    while at < kva.end {
        // One PDP table holds 512 steps.
        let slot = at >> PML4SHIFT;
        if pdp.as_ref().is_none_or(|(of, _)| *of != slot) {
            pdp = Some((slot, walked.pdp(view, at)?));
        }
        let entry = match &pdp {
            Some((_, Some(table))) => table.get(at >> PDPSHIFT),
            _ => 0,
        };
        if let Some(page) = walked.gigabyte(view, entry, dumpable, marks)? {
            walked.pmap.insert(walked.pmap_pages, page);
        }
        walked.pmap_pages += 1;
        match at.checked_add(NBPDP) {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(walked)
}

impl Walked {
    fn pdp(&mut self, view: &MachineView, at: u64) -> Result<Option<Box<Table>>, TakeError> {
        let root = view
            .table(view.pml4())
            .map_err(TakeError::memory("KPML4phys"))?;
        let entry = root.get(at >> PML4SHIFT);
        if entry & PG_V == 0 {
            return Ok(None);
        }
        self.table(view, entry, at)
    }

    /// The table that `entry` points at; one outside of memory is counted and empty.
    fn table(
        &mut self,
        view: &MachineView,
        entry: u64,
        at: u64,
    ) -> Result<Option<Box<Table>>, TakeError> {
        match view.table(entry) {
            Ok(table) => Ok(Some(table)),
            Err(ReadError::Hole { .. }) => {
                self.lost_tables += 1;
                Ok(None)
            }
            Err(error) => Err(TakeError::Memory {
                what: format!("page table for {}", VirtAddr(at)),
                source: error,
            }),
        }
    }

    /// One GiB of the kernel map: marks its pages, and gives its page of the section.
    fn gigabyte(
        &mut self,
        view: &MachineView,
        entry: u64,
        dumpable: &mut Dumpable<'_>,
        marks: &mut Marks,
    ) -> Result<Option<Box<[u8]>>, TakeError> {
        if entry & PG_V == 0 {
            return Ok(None);
        }
        if entry & PG_PS != 0 {
            let start = entry & PG_PS_PDP_FRAME;
            marks.add(start..start + NBPDP);
            return Ok(Some(directory_of_leaf(entry)));
        }
        let Some(directory) = self.table(view, entry, 0)? else {
            return Ok(None);
        };
        for pde in directory.entries().filter(|pde| pde & PG_V != 0) {
            if pde & PG_PS != 0 {
                let start = pde & PG_PS_FRAME;
                marks.add(start..start + NBPDR);
                continue;
            }
            let table = pde & PG_FRAME;
            marks.add(table..table + PAGE_SIZE);
            if let Some(table) = self.table(view, pde, 0)? {
                for pte in table.entries().filter(|pte| pte & PG_V != 0) {
                    let start = pte & PG_FRAME;
                    marks.add(start..start + PAGE_SIZE);
                }
            }
        }
        // The kernel writes a page of zeros for a directory that it could not dump.
        Ok(dumpable
            .allows(entry & PG_FRAME)
            .then(|| Box::from(directory.0.as_slice())))
    }
}

/// The page directory that stands for a 1 GiB leaf: the leaf's own entry, which is a 2 MiB leaf's
/// too, and the same 2 MiB further on each time.
fn directory_of_leaf(entry: u64) -> Box<[u8]> {
    let mut page = vec![0; PAGE_SIZE as usize];
    for (index, slot) in (0..NPTEPG).zip(page.chunks_exact_mut(PTE_SIZE)) {
        // The frame of a 1 GiB leaf leaves room for 511 additions; the bit above, NX, may be set.
        slot.copy_from_slice(&entry.wrapping_add(index * NBPDR).to_le_bytes());
    }
    page.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_giant_leaf_becomes_512_leaves_of_2_mib() {
        let page = directory_of_leaf(0x8000_0001_4000_0083);
        let entry = |i: usize| u64::from_le_bytes(page[8 * i..8 * i + 8].try_into().unwrap());
        assert_eq!(entry(0), 0x8000_0001_4000_0083);
        assert_eq!(entry(1), 0x8000_0001_4020_0083);
        assert_eq!(entry(511), 0x8000_0001_7fe0_0083);
    }
}
