//! 32-bit arm: kernel virtual to physical.
//!
//! There is no direct map. The section holds one L2 descriptor per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::defs::arm::{
    L2_L_FRAME, L2_L_OFFSET, L2_S_FRAME, L2_TYPE_INV, L2_TYPE_L, L2_TYPE_MASK, L2_TYPE_T,
    MMUFORMAT_V4, MMUFORMAT_V6_LPAE, PTE_SIZE,
};
use crate::defs::minidump::PAGE_SIZE;
use crate::{PhysAddr, ReadError, VirtAddr};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    if header.mmuformat >= MMUFORMAT_V6_LPAE {
        return not_mapped(at, "this form of page-table entries is not known");
    }
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, "it lies below the kernel map");
    };
    let pte = tables.pmap_entry(at, offset / PAGE_SIZE, PTE_SIZE)?;
    match pte & L2_TYPE_MASK {
        L2_TYPE_INV => not_mapped(at, "its L2 descriptor is not valid"),
        L2_TYPE_L => Ok(PhysAddr((pte & L2_L_FRAME) + (at.0 & L2_L_OFFSET))),
        L2_TYPE_T if header.mmuformat == MMUFORMAT_V4 => {
            not_mapped(at, "its L2 descriptor is a tiny page")
        }
        _ => Ok(PhysAddr((pte & L2_S_FRAME) + at.offset_in(PAGE_SIZE))),
    }
}
