//! arm64's minidump.
//!
//! The page-table section contains L3 tables, one for each L2 entry; they are not pages of the dump
//! (`sys/arm64/arm64/minidump_machdep.c`).

use std::ops::{Range, RangeInclusive};

use livecore_defs::arm64;
use livecore_defs::arm64::{FLAG_PS_16K, SYNTHETIC_L3};
use livecore_kernel::locate::Machine;
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, MinidumpHeader, VirtAddr};

use super::Port;
use crate::take::error::TakeError;
use crate::take::walk::{Flat, Walk};

/// The port.
pub(super) struct Arm64;

/// The first `osreldate` with `flags` in the header.
const FLAGS_SINCE: u32 = 1_400_000;

impl Port for Arm64 {
    fn arch(&self) -> &'static Architecture {
        &arm64::ARCHITECTURE
    }

    fn versions(&self, paging: Paging) -> RangeInclusive<u32> {
        // Only version 3 records 16 KiB pages.
        match paging {
            Paging::Arm64Pages16K => 3..=3,
            _ => 1..=3,
        }
    }

    fn newest(&self, paging: Paging, osreldate: u32) -> u32 {
        if paging == Paging::Arm64Pages16K || osreldate >= FLAGS_SINCE {
            3
        } else {
            2
        }
    }

    fn header(&self, machine: &Machine, version: u32) -> MinidumpHeader {
        MinidumpHeader {
            arch: &arm64::ARCHITECTURE,
            version,
            kernbase: machine.kernbase.0,
            dmapphys: machine.dmapphys.0,
            dmapbase: machine.dmap.start.0,
            dmapend: machine.dmap.end.0,
            flags: match machine.located.paging {
                Paging::Arm64Pages16K => FLAG_PS_16K,
                _ => 0,
            },
            ..MinidumpHeader::default()
        }
    }

    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<VirtAddr>) -> Result<(), TakeError> {
        walk.flat(
            kva,
            &Flat {
                synthetic: |_, frame| frame | SYNTHETIC_L3,
                whole_blocks: true,
                through_window: false,
            },
        )
    }
}
