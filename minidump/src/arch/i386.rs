//! i386, with and without PAE: kernel virtual to physical.
//!
//! There is no direct map. The section holds one PTE per page.

use crate::arch::tables::{Tables, not_mapped};
use crate::arch::walk::{Flat, Leaf, Protection};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};
use livecore_defs::i386::{PG_FRAME, PG_FRAME_PAE, PG_NX, PG_RW, PG_V, PTE_SIZE, PTE_SIZE_PAE};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let Some(offset) = at.0.checked_sub(header.kernbase) else {
        return not_mapped(at, "it lies below the kernel map");
    };
    super::translate_flat(tables, at, offset, form(header))
}

/// The section, by the header's word.
pub(crate) fn form(header: &MinidumpHeader) -> &'static Flat {
    if header.paemode == 0 {
        &Flat {
            entry_size: PTE_SIZE,
            leaf: |_, entry, _| leaf(entry, PG_FRAME),
        }
    } else {
        &Flat {
            entry_size: PTE_SIZE_PAE,
            leaf: |_, entry, _| leaf(entry, PG_FRAME_PAE),
        }
    }
}

fn leaf(entry: u64, frame: u64) -> Result<Leaf, &'static str> {
    if entry & PG_V == 0 {
        return Err("its page-table entry is not valid");
    }
    Ok(Leaf {
        frame: entry & frame,
        protection: Protection {
            write: entry & PG_RW != 0,
            // Without PAE there is no such bit, and this one is zero.
            execute: entry & PG_NX == 0,
        },
    })
}
