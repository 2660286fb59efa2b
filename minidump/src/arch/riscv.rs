//! riscv64: kernel virtual to physical.
//!
//! The direct map is tested before the kernel map, which lies below it. The section holds one L3
//! entry per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::defs::riscv::{L3_SHIFT, PTE_PPN_MASK, PTE_PPN0_S, PTE_RWX, PTE_SIZE, PTE_V};
use crate::{PhysAddr, ReadError, VirtAddr};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    if let Some(found) = super::direct(header, at)? {
        return Ok(found);
    }
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, super::OUTSIDE);
    };
    let entry = tables.pmap_entry(at, offset >> L3_SHIFT, PTE_SIZE)?;
    if entry & PTE_V == 0 || entry & PTE_RWX == 0 {
        return not_mapped(at, "its L3 entry is no valid leaf");
    }
    // Extensions use bits above the frame number: libkvm takes them for part of it.
    let frame = (entry & PTE_PPN_MASK) >> PTE_PPN0_S << L3_SHIFT;
    Ok(PhysAddr(frame + at.offset_in(1 << L3_SHIFT)))
}
