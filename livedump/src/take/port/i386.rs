//! i386's minidump.
//!
//! The page-table section contains page tables, one for each directory entry from `KERNBASE` on;
//! they are not pages of the dump (`sys/i386/i386/minidump_machdep_base.c`).

use std::ops::{Range, RangeInclusive};

use livecore_defs::i386;
use livecore_defs::i386::SYNTHETIC_PTE;
use livecore_kernel::locate::Machine;
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, MinidumpHeader, VirtAddr};

use super::Port;
use crate::take::error::TakeError;
use crate::take::walk::{Flat, Walk};

/// The port.
pub(super) struct I386;

impl Port for I386 {
    fn arch(&self) -> &'static Architecture {
        &i386::ARCHITECTURE
    }

    fn versions(&self, _: Paging) -> RangeInclusive<u32> {
        1..=2
    }

    fn old_paddr_sizes(&self, paging: Paging) -> &'static [usize] {
        match paging {
            Paging::I386 => &[4],
            // `options PAE_TABLES` is PAE with 32-bit physical addresses.
            _ => &[8, 4],
        }
    }

    fn asks_pages(&self, follows: bool) -> bool {
        // Its own `is_dumpable` checked only `dump_avail` (10.4 and 12.1,
        // `sys/i386/i386/minidump_machdep.c`).
        follows
    }

    fn asks_tables(&self) -> bool {
        false
    }

    fn header(&self, machine: &Machine, version: u32) -> MinidumpHeader {
        MinidumpHeader {
            arch: &i386::ARCHITECTURE,
            version,
            kernbase: machine.kernbase.0,
            paemode: u32::from(machine.located.paging != Paging::I386),
            ..MinidumpHeader::default()
        }
    }

    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<VirtAddr>) -> Result<(), TakeError> {
        walk.flat(
            kva,
            &Flat {
                synthetic: |_, frame| frame | SYNTHETIC_PTE,
                whole_blocks: false,
                through_window: true,
            },
        )
    }
}
