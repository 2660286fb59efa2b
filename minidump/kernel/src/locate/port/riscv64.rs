//! riscv64, with Sv39 or Sv48.
//!
//! The image is at a multiple of 2 MiB. `kernel_pmap_store` has the root's address, which is in the
//! image or directly after it. With Sv39, it is `pagetable_l1`.

use livecore_defs::riscv;
use livecore_defs::riscv::{
    DMAP_MAX_ADDRESS, DMAP_MIN_ADDRESS, PMAP, VM_MAX_KERNEL_ADDRESS, VM_MIN_KERNEL_ADDRESS,
};
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, KernelElf, VirtAddr};

use super::{AddressSpace, Port, direct_map, root};
use crate::kernel::Kernel;
use crate::locate::error::LocateError;
use crate::locate::image::{KernelImage, Located};

/// The port.
pub(super) struct Riscv64;

impl Port for Riscv64 {
    fn arch(&self) -> &'static Architecture {
        &riscv::ARCHITECTURE
    }

    fn link(&self, _: &KernelElf) -> VirtAddr {
        VM_MIN_KERNEL_ADDRESS
    }

    fn confirm(&self, image: &KernelImage<'_>) -> Option<Located> {
        let top = VirtAddr(image.value("kernel_pmap_store", PMAP.top as u64, 8)?);
        let table = image.pa(top)?;
        // With Sv39, the L1 table is the root. With Sv48, the root's last entry points at it.
        let modes: &[Paging] = match image.variable("pagetable_l1") {
            Some(l1) if l1 == top => &[Paging::Sv39],
            Some(_) => &[Paging::Sv48],
            None => &[Paging::Sv39, Paging::Sv48],
        };
        let paging = modes.iter().copied().find(|paging| {
            table.offset_in(paging.page_size()) == 0 && image.is_mapped_by(table, *paging)
        })?;
        Some(Located {
            kernphys: image.kernphys,
            root: table,
            paging,
        })
    }

    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<AddressSpace, LocateError> {
        let dmap = direct_map(kernel, DMAP_MIN_ADDRESS..DMAP_MAX_ADDRESS)?;
        let bits = match located.paging {
            Paging::Sv48 => 47,
            _ => 38,
        };
        Ok(AddressSpace {
            kernbase: VM_MIN_KERNEL_ADDRESS,
            dmap: dmap.addresses,
            dmapphys: dmap.physical.start,
            phys_in_dmap: dmap.physical,
            roots: vec![
                root(located, VirtAddr(u64::MAX << bits)..=VirtAddr::MAX),
                root(located, VirtAddr(0)..=VirtAddr((1 << bits) - 1)),
            ],
        })
    }

    fn kva_limit(&self) -> VirtAddr {
        VM_MAX_KERNEL_ADDRESS
    }
}
