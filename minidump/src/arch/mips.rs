//! mips, 32 and 64 bit: kernel virtual to physical.
//!
//! Three unmapped windows are the hardware's own; the section holds one entry per page from
//! `kernbase`.

use crate::arch::tables::{Tables, not_mapped};
use crate::arch::walk::{Flat, Leaf, Protection};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};
use livecore_defs::minidump::PAGE_SIZE;
use livecore_defs::mips::{
    KSEG_PHYS_MASK, KSEG_SIGN, KSEG0_START, KSEG1_END, PTE_D, PTE_PFN_MASK_32, PTE_PFN_MASK_64,
    PTE_PFN_SHIFT, PTE_V, XKPHYS_CACHED, XKPHYS_END, XKPHYS_PHYS_MASK, XKPHYS_START,
};

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
    super::translate_flat(tables, at, offset, form(header))
}

/// The address of XKPHYS (cached) or KSEG0 that stands for physical `at`.
pub(crate) fn direct_map_of(header: &MinidumpHeader, at: PhysAddr) -> Option<VirtAddr> {
    if is_64(header) {
        (at.0 <= XKPHYS_PHYS_MASK).then(|| VirtAddr(XKPHYS_CACHED + at.0))
    } else {
        (at.0 <= KSEG_PHYS_MASK).then(|| VirtAddr(KSEG0_START + at.0))
    }
}

/// The section, by the width of the kernel's addresses.
pub(crate) fn form(header: &MinidumpHeader) -> &'static Flat {
    if is_64(header) {
        &Flat {
            entry_size: 8,
            leaf: |_, entry, _| leaf(entry, PTE_PFN_MASK_64),
        }
    } else {
        &Flat {
            entry_size: 4,
            leaf: |_, entry, _| leaf(entry, PTE_PFN_MASK_32),
        }
    }
}

fn leaf(entry: u64, mask: u64) -> Result<Leaf, &'static str> {
    if entry & PTE_V == 0 {
        return Err("its page-table entry is not valid");
    }
    Ok(Leaf {
        frame: ((entry & mask) >> PTE_PFN_SHIFT) * PAGE_SIZE,
        protection: Protection {
            write: entry & PTE_D != 0,
            execute: true,
        },
    })
}
