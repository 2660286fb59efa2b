//! arm64: kernel virtual to physical.
//!
//! The direct map is tested before the kernel map, which lies below it. The section holds one L3
//! descriptor per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::arch::walk::{Flat, Leaf, Protection};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};
use livecore_defs::arm64::{
    ATTR_AP_RO, ATTR_DESCR_MASK, ATTR_FRAME, ATTR_PXN, ATTR_UXN, L3_PAGE, PTE_SIZE,
};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    if let Some(found) = super::direct(header, at)? {
        return Ok(found);
    }
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, super::OUTSIDE);
    };
    super::translate_flat(tables, at, offset, &FLAT)
}

/// The section.
pub(crate) const FLAT: Flat = Flat {
    entry_size: PTE_SIZE,
    leaf,
};

fn leaf(header: &MinidumpHeader, entry: u64, _: VirtAddr) -> Result<Leaf, &'static str> {
    if entry & ATTR_DESCR_MASK != L3_PAGE {
        return Err("its L3 descriptor is no page");
    }
    Ok(Leaf {
        frame: PhysAddr(entry & ATTR_FRAME)
            .align_down(header.page_size())
            .0,
        protection: Protection {
            write: entry & ATTR_AP_RO == 0,
            execute: entry & (ATTR_PXN | ATTR_UXN) == 0,
        },
    })
}
