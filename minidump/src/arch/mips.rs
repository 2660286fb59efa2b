//! mips, 32 and 64 bit: kernel virtual to physical.
//!
//! Three unmapped windows are the hardware's own; the section holds one entry per page from
//! `kernbase`.

use crate::arch::tables::{Tables, not_mapped};
use crate::defs::minidump::PAGE_SIZE;
use crate::defs::mips::{
    KSEG_PHYS_MASK, KSEG_SIGN, KSEG0_START, KSEG1_END, PTE_PFN_MASK_32, PTE_PFN_MASK_64,
    PTE_PFN_SHIFT, PTE_V, XKPHYS_END, XKPHYS_PHYS_MASK, XKPHYS_START,
};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};

/// Whether it is a 64-bit kernel: the addresses of others have no upper half.
pub(crate) fn is_64(header: &MinidumpHeader) -> bool {
    header.kernbase >> 32 != 0
}

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let wide = is_64(header);
    if wide && (XKPHYS_START..=XKPHYS_END).contains(&at.0) {
        return Ok(PhysAddr(at.0 & XKPHYS_PHYS_MASK));
    }
    let sign = if wide { KSEG_SIGN } else { 0 };
    if (sign + KSEG0_START..sign + KSEG1_END).contains(&at.0) {
        return Ok(PhysAddr(at.0 & KSEG_PHYS_MASK));
    }
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, super::OUTSIDE);
    };
    let (size, mask) = if wide {
        (8, PTE_PFN_MASK_64)
    } else {
        (4, PTE_PFN_MASK_32)
    };
    let pte = tables.pmap_entry(at, offset / PAGE_SIZE, size)?;
    if pte & PTE_V == 0 {
        return not_mapped(at, "its page-table entry is not valid");
    }
    let frame = (pte & mask) >> PTE_PFN_SHIFT;
    Ok(PhysAddr(frame * PAGE_SIZE + at.offset_in(PAGE_SIZE)))
}
