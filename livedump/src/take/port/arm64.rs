//! arm64's minidump.
//!
//! The page-table section contains L3 tables, one for each L2 entry; they are not pages of the dump
//! (`sys/arm64/arm64/minidump_machdep.c`).

use std::ops::{Range, RangeInclusive};

use livecore_defs::arm64;
use livecore_defs::arm64::{FLAG_PS_4K, FLAG_PS_16K, SYNTHETIC_L3, SYNTHETIC_L3_LPA2};
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
        match has_16_kib_pages(paging) {
            true => 3..=3,
            false => 1..=3,
        }
    }

    fn newest(&self, paging: Paging, osreldate: u32) -> u32 {
        if has_16_kib_pages(paging) || osreldate >= FLAGS_SINCE {
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
            flags: match has_16_kib_pages(machine.located.paging) {
                true => FLAG_PS_16K,
                false => FLAG_PS_4K,
            },
            ..MinidumpHeader::default()
        }
    }

    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<VirtAddr>) -> Result<(), TakeError> {
        let geometry = walk.geometry();
        let lpa2 = [&arm64::PAGING_LPA2, &arm64::PAGING_16K_LPA2].contains(&geometry);
        walk.flat(
            kva,
            &Flat {
                synthetic: match lpa2 {
                    true => |_, frame| frame | SYNTHETIC_L3_LPA2,
                    false => |_, frame| frame | SYNTHETIC_L3,
                },
                whole_blocks: true,
                through_window: false,
            },
        )
    }
}

fn has_16_kib_pages(paging: Paging) -> bool {
    matches!(paging, Paging::Arm64Pages16K | Paging::Arm64Lpa2Pages16K)
}
