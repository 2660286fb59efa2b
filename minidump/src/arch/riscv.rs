//! riscv64: kernel virtual to physical.
//!
//! The direct map is tested before the kernel map, which lies below it. The section holds one L3
//! entry per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::arch::walk::{Flat, Leaf, Protection};
use livecore_defs::riscv::{
    L3_SHIFT, PTE_PPN_MASK, PTE_PPN0_S, PTE_RWX, PTE_SIZE, PTE_V, PTE_W, PTE_X,
};

use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};

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

fn leaf(_: &MinidumpHeader, entry: u64, _: VirtAddr) -> Result<Leaf, &'static str> {
    if entry & PTE_V == 0 || entry & PTE_RWX == 0 {
        return Err("its L3 entry is no valid leaf");
    }
    Ok(Leaf {
        // Extensions use bits above the frame number: libkvm takes them for part of it.
        frame: (entry & PTE_PPN_MASK) >> PTE_PPN0_S << L3_SHIFT,
        protection: Protection {
            write: entry & PTE_W != 0,
            execute: entry & PTE_X != 0,
        },
    })
}
