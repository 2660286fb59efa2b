//! Where a kernel of each architecture lies in memory, and how it lays out its addresses: one file
//! and one table row each.
//!
//! | port    | kernel                         | page tables                  |
//! |---------|--------------------------------|------------------------------|
//! | amd64   | moved by the loader            | 4 levels; 5 with direct map  |
//! | arm64   | at any 2 MiB                   | 4 levels; 4 or 16 KiB pages  |
//! | riscv64 | at any 2 MiB                   | Sv39, Sv48                   |
//! | i386    | at its address, or 3 GiB below | 2 levels; PAE                |

mod amd64;
mod arm64;
mod i386;
mod riscv64;

use std::ops::{Range, RangeInclusive};

use livecore_minidump::mmu::Root;
use livecore_minidump::{Architecture, KernelElf, PhysMemory};

use super::error::LocateError;
use super::image::{Image, Located};
use crate::kernel::Kernel;

/// How kernels of an architecture are found in memory.
pub trait Port: Sync {
    /// The architecture.
    fn arch(&self) -> &'static Architecture;

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
    ///
    /// # Errors
    ///
    /// [`LocateError`] if a variable cannot be read, or contradicts the others.
    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<Space, LocateError>;

    /// The end of the kernel addresses that a dump describes.
    ///
    /// # Errors
    ///
    /// [`LocateError`] if a variable cannot be read.
    fn kva_end(&self, kernel: &Kernel<'_>) -> Result<u64, LocateError> {
        Ok(kernel.pointer("kernel_vm_end")?)
    }

    /// The end of what [`Port::kva_end`] may be.
    fn kva_limit(&self) -> u64;
}

/// A kernel's addresses.
pub struct Space {
    /// The lowest address of the kernel map that a dump describes.
    pub kernbase: u64,
    /// Addresses of the direct map; empty without one.
    pub dmap: Range<u64>,
    /// The physical address behind the start of the direct map.
    pub dmapphys: u64,
    /// Physical addresses that are dumped: those of the direct map, if there is one
    /// (`PHYS_IN_DMAP`).
    pub phys_in_dmap: Range<u64>,
    /// The trees of page tables.
    pub roots: Vec<Root>,
}

const PORTS: [&dyn Port; 4] = [&amd64::Amd64, &arm64::Arm64, &riscv64::Riscv64, &i386::I386];

/// The port of a kernel.
///
/// # Errors
///
/// [`LocateError::Unsupported`] if there is none for its architecture.
pub fn port_of(elf: &KernelElf) -> Result<&'static dyn Port, LocateError> {
    let (machine, is_64) = (elf.machine(), elf.is_64());
    let word = if is_64 { 8 } else { 4 };
    PORTS
        .into_iter()
        .find(|port| port.arch().machine == machine && port.arch().words.contains(&word))
        .ok_or_else(|| LocateError::Unsupported {
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
fn direct_map(kernel: &Kernel<'_>, usual: Range<u64>) -> Result<DirectMap, LocateError> {
    let physical = kernel.variable("dmap_phys_base", 8)?..kernel.variable("dmap_phys_max", 8)?;
    let start = match kernel.address("dmap_max_addr") {
        Ok(at) => {
            let end = kernel.uint_at("dmap_max_addr", at, 8)?;
            end.checked_sub(physical.end.wrapping_sub(physical.start))
        }
        Err(_) => Some(usual.start),
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
        _ => Err(LocateError::Contradiction {
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

/// The multiples of 2 MiB that are memory and below `limit`, `usual` first.
fn multiples_of_2_mib(
    memory: &dyn PhysMemory,
    usual: Option<u64>,
    limit: u64,
) -> impl Iterator<Item = u64> + '_ {
    const STEP: u64 = 2 << 20;
    let all = memory.ranges().iter().flat_map(move |range| {
        let first = range.start.checked_next_multiple_of(STEP);
        let first = first.unwrap_or(u64::MAX);
        (first..range.end.min(limit)).step_by(STEP as usize)
    });
    usual
        .into_iter()
        .chain(all.filter(move |x| Some(*x) != usual))
}
