//! amd64: kernel virtual to physical.
//!
//! The kernel map is tested before the direct map. Version 1's section holds one PTE per page;
//! versions 2 and 3 hold PDEs, whose page tables are ordinary pages of the dump.

use crate::arch::tables::{Tables, not_mapped};
use crate::arch::walk::{Flat, Leaf, Protection};
use crate::{PhysAddr, ReadError, VirtAddr};
use livecore_defs::amd64::{
    NBPDR, NPTEPG, PAGE_SHIFT, PAGE_SIZE, PDRSHIFT, PG_FRAME, PG_NX, PG_PS, PG_PS_FRAME, PG_RW,
    PG_V, PTE_SIZE,
};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    if let Some(offset) = at.0.checked_sub(header.kernbase) {
        if header.version == 1 {
            let pte = tables.pmap_entry(at, offset >> PAGE_SHIFT, PTE_SIZE)?;
            return page(at, pte);
        }
        let pde = tables.pmap_entry(at, offset >> PDRSHIFT, PTE_SIZE)?;
        if pde & PG_V == 0 {
            return not_mapped(at, "its page-directory entry is not valid");
        }
        if pde & PG_PS != 0 {
            return Ok(PhysAddr((pde & PG_PS_FRAME) + at.offset_in(NBPDR)));
        }
        let index = (at.0 >> PAGE_SHIFT) % NPTEPG;
        let entry = PhysAddr((pde & PG_FRAME) + index * PTE_SIZE as u64);
        return page(at, tables.phys_entry(at, entry)?);
    }
    if (header.dmapbase..header.dmapend).contains(&at.0) {
        return Ok(PhysAddr(at.0 - header.dmapbase));
    }
    not_mapped(
        at,
        "it lies below the kernel map and outside of the direct map",
    )
}

fn page(at: VirtAddr, pte: u64) -> Result<PhysAddr, ReadError> {
    match leaf(pte) {
        Ok(leaf) => Ok(PhysAddr(leaf.frame + at.offset_in(PAGE_SIZE))),
        Err(why) => not_mapped(at, why),
    }
}

fn leaf(pte: u64) -> Result<Leaf, &'static str> {
    if pte & PG_V == 0 {
        return Err("its page-table entry is not valid");
    }
    Ok(Leaf {
        frame: pte & PG_FRAME,
        protection: protection(pte),
    })
}

/// What an entry of any level allows.
pub(crate) fn protection(entry: u64) -> Protection {
    Protection {
        write: entry & PG_RW != 0,
        execute: entry & PG_NX == 0,
    }
}

/// Version 1's section.
pub(crate) const FLAT: Flat = Flat {
    entry_size: PTE_SIZE,
    leaf: |_, entry, _| leaf(entry),
};
