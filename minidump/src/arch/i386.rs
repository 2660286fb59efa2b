//! i386, with and without PAE: kernel virtual to physical.
//!
//! There is no direct map. The section holds one PTE per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::defs::i386::{PG_FRAME, PG_FRAME_PAE, PG_V, PTE_SIZE, PTE_SIZE_PAE};
use crate::defs::minidump::PAGE_SIZE;
use crate::{PhysAddr, ReadError, VirtAddr};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, "it lies below the kernel map");
    };
    let (size, frame) = if header.paemode == 0 {
        (PTE_SIZE, PG_FRAME)
    } else {
        (PTE_SIZE_PAE, PG_FRAME_PAE)
    };
    let pte = tables.pmap_entry(at, offset / PAGE_SIZE, size)?;
    if pte & PG_V == 0 {
        return not_mapped(at, "its page-table entry is not valid");
    }
    Ok(PhysAddr((pte & frame) + at.offset_in(PAGE_SIZE)))
}
