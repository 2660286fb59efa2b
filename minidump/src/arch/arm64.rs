//! arm64: kernel virtual to physical.
//!
//! The direct map is tested before the kernel map, which lies below it. The section holds one L3
//! descriptor per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::defs::arm64::{ATTR_DESCR_MASK, ATTR_FRAME, L3_PAGE, PTE_SIZE};
use crate::{PhysAddr, ReadError, VirtAddr};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let page_size = header.page_size();
    if let Some(found) = super::direct(header, at)? {
        return Ok(found);
    }
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, super::OUTSIDE);
    };
    let entry = tables.pmap_entry(at, offset / page_size, PTE_SIZE)?;
    if entry & ATTR_DESCR_MASK != L3_PAGE {
        return not_mapped(at, "its L3 descriptor is no page");
    }
    let frame = PhysAddr(entry & ATTR_FRAME).align_down(page_size);
    Ok(PhysAddr(frame.0 + at.offset_in(page_size)))
}
