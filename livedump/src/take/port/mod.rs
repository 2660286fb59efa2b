//! The ports that are dumped from outside, one file and one table row each.
//!
//! | port    | kernel                         | page tables                  | a dump's versions |
//! |---------|--------------------------------|------------------------------|-------------------|
//! | amd64   | moved by the loader            | 4 levels; 5 with direct map  | 2, 3              |
//! | arm64   | at any 2 MiB                   | 4 levels; 4 or 16 KiB pages  | 1, 2, 3           |
//! | riscv64 | at any 2 MiB                   | Sv39, Sv48                   | 1, 2              |
//! | i386    | at its address, or 3 GiB below | 2 levels; PAE                | 1, 2              |

mod amd64;
mod arm64;
mod i386;
mod riscv64;

use std::ops::{Range, RangeInclusive};

use livecore_minidump::{Arch, KernelElf, MinidumpHeader};

use super::kernel::Variables;
use super::locate::{Image, Located};
use super::walk::Walk;
use super::{Machine, TakeError};
use livecore_minidump::PhysMemory;
use livecore_minidump::mmu::Paging;
use livecore_minidump::mmu::Root;

/// What a dump from outside must know of an architecture, beside its format.
pub(super) trait Port: Sync {
    /// The architecture.
    fn arch(&self) -> Arch;

    /// The address that the start of the image is linked at.
    fn link(&self, elf: &KernelElf) -> u64;

    /// Symbols without which no kernel of the port can be found.
    fn roots(&self) -> &'static [&'static str];

    /// Physical addresses at which the image may begin, the likeliest first.
    fn places<'a>(&self, memory: &'a dyn PhysMemory) -> Box<dyn Iterator<Item = u64> + 'a>;

    /// Whether [`Located::kernphys`] is the physical address of [`Port::link`], and not that of the
    /// image's first directory entry.
    fn is_moved(&self) -> bool {
        true
    }

    /// What is said when the version string is at none of them: "at no …".
    fn nowhere(&self) -> &'static str;

    /// Where the kernel of `image` has its tables, if its own variables agree on that.
    fn confirm(&self, image: &Image<'_>) -> Option<Located>;

    /// The kernel's addresses. The variables are read through `located`'s tables.
    fn space(&self, variables: Variables<'_>, located: &Located) -> Result<Space, TakeError>;

    /// The end of the kernel addresses that a dump describes.
    fn kva_end(&self, variables: Variables<'_>) -> Result<u64, TakeError> {
        variables.long("kernel_vm_end")
    }

    /// The end of what [`Port::kva_end`] may be.
    fn kva_limit(&self) -> u64;

    /// Versions of the minidump that are written of a kernel with these tables.
    fn versions(&self, paging: Paging) -> RangeInclusive<u32>;

    /// The version that a kernel writes itself whose bitmap follows `dump_avail`.
    fn newest(&self, paging: Paging, osreldate: u32) -> u32 {
        let _ = (paging, osreldate);
        self.arch().fields().last_version
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

/// A kernel's addresses.
pub(super) struct Space {
    /// The lowest address of the kernel map that a dump describes.
    pub(super) kernbase: u64,
    /// Addresses of the direct map; empty without one.
    pub(super) dmap: Range<u64>,
    /// The physical address behind the start of the direct map.
    pub(super) dmapphys: u64,
    /// Physical addresses that are dumped: those of the direct map, if there is one
    /// (`PHYS_IN_DMAP`).
    pub(super) phys_in_dmap: Range<u64>,
    /// The trees of page tables.
    pub(super) roots: Vec<Root>,
}

/// The table: ELF machine, whether it is 64-bit, port.
const PORTS: [(u16, bool, &dyn Port); 4] = [
    (62, true, &amd64::Amd64),
    (183, true, &arm64::Arm64),
    (243, true, &riscv64::Riscv64),
    (3, false, &i386::I386),
];

/// The port of a kernel.
pub(super) fn of(elf: &KernelElf) -> Result<&'static dyn Port, TakeError> {
    let (machine, is_64) = (elf.machine(), elf.is_64());
    PORTS
        .into_iter()
        .find(|(of, wide, _)| (*of, *wide) == (machine, is_64))
        .map(|(_, _, port)| port)
        .ok_or_else(|| TakeError::Unsupported {
            what: format!(
                "a kernel of ELF machine {machine} ({} bits); dumps are taken of amd64 (62), \
                 arm64 (183), riscv64 (243) and i386 (3)",
                if is_64 { 64 } else { 32 }
            ),
        })
}

/// The direct map of arm64 and riscv64, which covers what `dmap_phys_base` and `dmap_phys_max` say.
///
/// Where it begins is a constant of the release (`DMAP_MIN_ADDRESS`), which `dmap_max_addr`, the
/// address of `dmap_phys_max`, gives away.
fn direct_map(variables: Variables<'_>, usual: Range<u64>) -> Result<DirectMap, TakeError> {
    let physical = variables.u64("dmap_phys_base")?..variables.u64("dmap_phys_max")?;
    let start = match variables.find("dmap_max_addr") {
        Some(at) => {
            let end = variables.u64_at("dmap_max_addr", at)?;
            end.checked_sub(physical.end.wrapping_sub(physical.start))
        }
        None => Some(usual.start),
    };
    match start {
        Some(start)
            if physical.start < physical.end
                && start >> 63 == 1
                && start < usual.end
                && start % (1 << 30) == 0 =>
        {
            Ok(DirectMap {
                addresses: start..usual.end,
                physical,
            })
        }
        _ => Err(TakeError::Contradiction {
            what: "dmap_max_addr",
            found: format!(
                "a direct map from {:#x} of physical {:#x} to {:#x}",
                start.unwrap_or(0),
                physical.start,
                physical.end
            ),
            expected: format!("one below {:#x}", usual.end),
        }),
    }
}

struct DirectMap {
    addresses: Range<u64>,
    physical: Range<u64>,
}

/// `addr` of [`Located::root`] as a tree for all of `covers`.
fn root(located: &Located, covers: RangeInclusive<u64>) -> Root {
    Root {
        covers,
        table: located.root,
        paging: located.paging,
    }
}
