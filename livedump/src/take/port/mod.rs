//! The minidump format of each architecture: one file and one table row each.
//!
//! | port    | versions          | page-table section              |
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
use livecore_minidump::{Architecture, MinidumpHeader, VirtAddr};

use super::error::TakeError;
use super::walk::Walk;

/// The minidumps of an architecture's kernels.
pub(super) trait Port: Sync {
    /// The architecture.
    fn arch(&self) -> &'static Architecture;

    /// The minidump versions that can be written for a kernel with these page tables.
    fn versions(&self, paging: Paging) -> RangeInclusive<u32>;

    /// The version that a kernel itself writes, if its bitmap follows `dump_avail`.
    fn newest(&self, paging: Paging, osreldate: u32) -> u32 {
        let _ = (paging, osreldate);
        self.arch().header.last_version
    }

    /// The possible sizes of `vm_paddr_t` in a kernel whose bitmap does not follow `dump_avail`,
    /// the likelier first.
    fn old_paddr_sizes(&self, paging: Paging) -> &'static [usize] {
        let _ = paging;
        &[8]
    }

    /// Whether the kernel checks a page's `struct vm_page` before dumping it. `follows` is whether
    /// its bitmap follows `dump_avail`.
    fn asks_pages(&self, follows: bool) -> bool {
        let _ = follows;
        true
    }

    /// Whether a kernel whose bitmap follows `dump_avail` omits page tables from the section that
    /// it could not dump as pages. Earlier kernels write all of them.
    fn asks_tables(&self) -> bool {
        true
    }

    /// The header for the machine, without sizes.
    fn header(&self, machine: &Machine, version: u32) -> MinidumpHeader {
        MinidumpHeader {
            arch: self.arch(),
            version,
            kernbase: machine.kernbase.0,
            dmapphys: machine.dmapphys.0,
            dmapbase: machine.dmap.start.0,
            dmapend: machine.dmap.end.0,
            ..MinidumpHeader::default()
        }
    }

    /// Walks the kernel map over `kva`: marks the pages and writes the page-table section.
    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<VirtAddr>) -> Result<(), TakeError>;
}

const PORTS: [&dyn Port; 4] = [&amd64::Amd64, &arm64::Arm64, &riscv64::Riscv64, &i386::I386];

/// The port of an architecture.
pub(super) fn of(arch: &Architecture) -> Result<&'static dyn Port, TakeError> {
    PORTS
        .into_iter()
        .find(|port| port.arch() == arch)
        .ok_or_else(|| TakeError::Unsupported {
            what: format!("a minidump of a machine with an {arch} kernel"),
        })
}
