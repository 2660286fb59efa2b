//! What kernels of each architecture write into a minidump: one file and one table row each.
//!
//! | port    | a dump's versions | its page-table section          |
//! |---------|-------------------|---------------------------------|
//! | amd64   | 2, 3              | page directories                |
//! | arm64   | 1, 2, 3           | L3 tables, an entry per page    |
//! | riscv64 | 1, 2              | L3 tables, an entry per page    |
//! | i386    | 1, 2              | page tables, an entry per page  |

mod amd64;
mod arm64;
mod i386;
mod riscv64;

use std::ops::{Range, RangeInclusive};

use livecore_kernel::locate::Machine;
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, MinidumpHeader};

use super::error::TakeError;
use super::walk::Walk;

/// What kernels of an architecture write into a minidump.
pub(super) trait Port: Sync {
    /// The architecture.
    fn arch(&self) -> &'static Architecture;

    /// Versions of the minidump that are written of a kernel with these tables.
    fn versions(&self, paging: Paging) -> RangeInclusive<u32>;

    /// The version that a kernel writes itself whose bitmap follows `dump_avail`.
    fn newest(&self, paging: Paging, osreldate: u32) -> u32 {
        let _ = (paging, osreldate);
        self.arch().header.last_version
    }

    /// Bytes that a `vm_paddr_t` may have in a kernel whose bitmap does not follow `dump_avail`, the
    /// likelier first.
    fn old_paddr_sizes(&self, paging: Paging) -> &'static [usize] {
        let _ = paging;
        &[8]
    }

    /// Whether the kernel asks a page's `struct vm_page` before it dumps it; `follows`: its bitmap
    /// follows `dump_avail`.
    fn asks_pages(&self, follows: bool) -> bool {
        let _ = follows;
        true
    }

    /// Whether a kernel whose bitmap follows `dump_avail` leaves tables out of the section that it
    /// could not dump as pages. Before, all were written.
    fn asks_tables(&self) -> bool {
        true
    }

    /// What the header says of the machine beside sizes.
    fn header(&self, machine: &Machine, version: u32) -> MinidumpHeader {
        MinidumpHeader {
            arch: self.arch(),
            version,
            kernbase: machine.kernbase,
            dmapphys: machine.dmapphys,
            dmapbase: machine.dmap.start,
            dmapend: machine.dmap.end,
            ..MinidumpHeader::default()
        }
    }

    /// Walks the kernel map over `kva`: marks what it reaches, writes the page-table section.
    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<u64>) -> Result<(), TakeError>;
}

const PORTS: [&dyn Port; 4] = [&amd64::Amd64, &arm64::Arm64, &riscv64::Riscv64, &i386::I386];

/// The port of an architecture.
pub(super) fn of(arch: &Architecture) -> Result<&'static dyn Port, TakeError> {
    PORTS
        .into_iter()
        .find(|port| port.arch() == arch)
        .ok_or_else(|| TakeError::Unsupported {
            what: format!("a minidump of a machine with a {arch} kernel"),
        })
}
