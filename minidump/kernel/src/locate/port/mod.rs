//! Load addresses and address spaces of the kernels of each architecture. Each has one file and one
//! row in the table.
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
use livecore_minidump::{Architecture, KernelElf, PhysAddr, PhysMemory, VirtAddr};

use super::error::LocateError;
use super::image::{KernelImage, Located};
use crate::kernel::Kernel;

/// Locates kernels of one architecture in memory.
pub trait Port: Sync {
    /// The architecture.
    fn arch(&self) -> &'static Architecture;

    /// The linked address of the start of the image.
    fn link(&self, elf: &KernelElf) -> VirtAddr;

    /// The symbols that are required to locate a kernel.
    fn roots(&self) -> &'static [&'static str] {
        &["kernel_pmap_store"]
    }

    /// The possible physical addresses of the start of the image, most likely first.
    fn places<'a>(&self, memory: &'a dyn PhysMemory) -> Box<dyn Iterator<Item = PhysAddr> + 'a> {
        Box::new(multiples_of_2_mib(memory, None, PhysAddr::MAX))
    }

    /// Whether [`Located::kernphys`] is the physical address of [`Port::link`]. If not, it is that of
    /// the image's first directory entry.
    fn is_moved(&self) -> bool {
        true
    }

    /// A description of [`Port::places`] for messages, such as "a multiple of 2 MiB".
    fn expected_address(&self) -> &'static str {
        "a multiple of 2 MiB"
    }

    /// Returns the location of the kernel of `image`, if its variables agree with each other.
    fn confirm(&self, image: &KernelImage<'_>) -> Option<Located>;

    /// Returns the kernel's address space. `variables` uses the page tables of `located`.
    ///
    /// # Errors
    ///
    /// Returns an error if a variable cannot be read or contradicts the others.
    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<AddressSpace, LocateError>;

    /// Returns the end of the kernel addresses in a dump's page tables.
    ///
    /// # Errors
    ///
    /// Returns an error if a variable cannot be read.
    fn kva_end(&self, kernel: &Kernel<'_>) -> Result<VirtAddr, LocateError> {
        Ok(kernel.pointer("kernel_vm_end")?)
    }

    /// The maximum value of [`Port::kva_end`].
    fn kva_limit(&self) -> VirtAddr;
}

/// A kernel's address space.
pub struct AddressSpace {
    /// The lowest kernel address in a dump's page tables.
    pub kernbase: VirtAddr,
    /// The addresses of the direct map; empty without one.
    pub dmap: Range<VirtAddr>,
    /// The physical address of the start of the direct map.
    pub dmapphys: PhysAddr,
    /// The physical addresses that are dumped: those of the direct map, if there is one
    /// (`PHYS_IN_DMAP`).
    pub phys_in_dmap: Range<PhysAddr>,
    /// The roots of the page tables.
    pub roots: Vec<Root>,
}

const PORTS: [&dyn Port; 4] = [&amd64::Amd64, &arm64::Arm64, &riscv64::Riscv64, &i386::I386];

/// Returns the port for a kernel.
///
/// # Errors
///
/// Returns [`LocateError::Unsupported`] if its architecture has none.
pub fn port_of(elf: &KernelElf) -> Result<&'static dyn Port, LocateError> {
    let (machine, is_64) = (elf.machine(), elf.is_64());
    let word = if is_64 { 8 } else { 4 };
    PORTS
        .into_iter()
        .find(|port| port.arch().machine == machine && port.arch().words.contains(&word))
        .ok_or_else(|| LocateError::Unsupported {
            what: format!(
                "kernel for ELF machine {machine} ({} bits) (supported: amd64 (62), arm64 (183), \
                 riscv64 (243), i386 (3))",
                if is_64 { 64 } else { 32 }
            ),
        })
}

/// Returns the direct map of arm64 and riscv64. It covers `dmap_phys_base` to `dmap_phys_max`.
///
/// Its start is a constant of the release (`DMAP_MIN_ADDRESS`). It is calculated from
/// `dmap_max_addr`, the virtual address of `dmap_phys_max`.
fn direct_map(kernel: &Kernel<'_>, usual: Range<VirtAddr>) -> Result<DirectMap, LocateError> {
    let physical = kernel.variable("dmap_phys_base", 8)?..kernel.variable("dmap_phys_max", 8)?;
    let start = match kernel.address("dmap_max_addr") {
        Ok(at) => {
            let end = kernel.uint_at("dmap_max_addr", at, 8)?;
            end.checked_sub(physical.end.wrapping_sub(physical.start))
                .map(VirtAddr)
        }
        Err(_) => Some(usual.start),
    };
    match start {
        Some(start)
            if physical.start < physical.end
                && start.0 >> 63 == 1
                && start < usual.end
                && start.offset_in(1 << 30) == 0 =>
        {
            Ok(DirectMap {
                addresses: start..usual.end,
                physical: PhysAddr(physical.start)..PhysAddr(physical.end),
            })
        }
        _ => Err(LocateError::Contradiction {
            what: "dmap_max_addr",
            found: format!(
                "direct map at {:#x} of physical {:#x} to {:#x}",
                start.unwrap_or_default(),
                physical.start,
                physical.end
            ),
            expected: format!("direct map below {:#x}, aligned to 1 GiB", usual.end),
        }),
    }
}

struct DirectMap {
    addresses: Range<VirtAddr>,
    physical: Range<PhysAddr>,
}

/// Returns [`Located::root`] as the root of the page tables for `covers`.
fn root(located: &Located, covers: RangeInclusive<VirtAddr>) -> Root {
    Root {
        covers,
        table: located.root,
        paging: located.paging,
    }
}

/// Returns the multiples of 2 MiB in memory below `limit`, `usual` first.
fn multiples_of_2_mib(
    memory: &dyn PhysMemory,
    usual: Option<PhysAddr>,
    limit: PhysAddr,
) -> impl Iterator<Item = PhysAddr> + '_ {
    const STEP: u64 = 2 << 20;
    let all = memory.ranges().iter().flat_map(move |range| {
        let first = range.start.0.checked_next_multiple_of(STEP);
        let first = first.unwrap_or(u64::MAX);
        (first..range.end.min(limit).0)
            .step_by(STEP as usize)
            .map(PhysAddr)
    });
    usual
        .into_iter()
        .chain(all.filter(move |x| Some(*x) != usual))
}
