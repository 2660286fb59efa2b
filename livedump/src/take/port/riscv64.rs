//! riscv64's minidump.
//!
//! The page-table section contains L3 tables, one for each L2 entry; they are not pages of the dump
//! (`sys/riscv/riscv/minidump_machdep.c`).

use std::ops::{Range, RangeInclusive};

use livecore_defs::riscv;
use livecore_defs::riscv::{L3_SHIFT, PTE_PPN_MASK, PTE_PPN0_S};
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, VirtAddr};

use super::Port;
use crate::take::error::TakeError;
use crate::take::walk::{Flat, Walk};

/// The port.
pub(super) struct Riscv64;

impl Port for Riscv64 {
    fn arch(&self) -> &'static Architecture {
        &riscv::ARCHITECTURE
    }

    fn versions(&self, _: Paging) -> RangeInclusive<u32> {
        1..=2
    }

    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<VirtAddr>) -> Result<(), TakeError> {
        walk.flat(
            kva,
            &Flat {
                synthetic: |raw, frame| (raw & !PTE_PPN_MASK) | frame >> L3_SHIFT << PTE_PPN0_S,
                whole_blocks: false,
                through_window: false,
            },
        )
    }
}
