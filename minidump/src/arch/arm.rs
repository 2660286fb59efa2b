//! 32-bit arm: kernel virtual to physical.
//!
//! There is no direct map. The section holds one L2 descriptor per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::arch::walk::{Flat, Leaf, Protection};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};
use livecore_defs::arm::{
    L2_L_FRAME, L2_L_NX_V6, L2_L_OFFSET, L2_NX_V6, L2_S_FRAME, L2_S_PROT_W_V4, L2_TYPE_INV,
    L2_TYPE_L, L2_TYPE_MASK, L2_TYPE_T, MMUFORMAT_V4, MMUFORMAT_V6_LPAE, PTE_SIZE, PTE2_RO_V6,
};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, "it lies below the kernel map");
    };
    super::translate_flat(tables, at, offset, &FLAT)
}

/// The section.
pub(crate) const FLAT: Flat = Flat {
    entry_size: PTE_SIZE,
    leaf,
};

fn leaf(header: &MinidumpHeader, entry: u64, at: VirtAddr) -> Result<Leaf, &'static str> {
    let v4 = header.mmuformat == MMUFORMAT_V4;
    let frame = match entry & L2_TYPE_MASK {
        _ if header.mmuformat >= MMUFORMAT_V6_LPAE => {
            return Err("this form of page-table entries is not known");
        }
        L2_TYPE_INV => return Err("its L2 descriptor is not valid"),
        // One descriptor of a large page stands for each of its 16 pages.
        L2_TYPE_L => (entry & L2_L_FRAME) + (at.0 & L2_L_OFFSET & L2_S_FRAME),
        L2_TYPE_T if v4 => return Err("its L2 descriptor is a tiny page"),
        _ => entry & L2_S_FRAME,
    };
    let protection = if v4 {
        Protection {
            write: entry & L2_S_PROT_W_V4 != 0,
            execute: true,
        }
    } else {
        Protection {
            write: entry & PTE2_RO_V6 == 0,
            execute: match entry & L2_TYPE_MASK {
                L2_TYPE_L => entry & L2_L_NX_V6 == 0,
                _ => entry & L2_NX_V6 == 0,
            },
        }
    };
    Ok(Leaf { frame, protection })
}
