//! arm64, with pages of 4 or 16 KiB.
//!
//! The image is at a multiple of 2 MiB. `kernel_pmap_store` has the root's physical and virtual
//! address; both must refer to the same page. No variable has the page size. It is determined with
//! `vm_page_dump_pages`, the number of pages in `dump_avail`.

use livecore_defs::arm64;
use livecore_defs::arm64::{
    DMAP_MAX_ADDRESS, DMAP_MIN_ADDRESS, DMAP_MIN_ADDRESS_12, PM_L0_12, PMAP, VM_MAX_KERNEL_ADDRESS,
    VM_MIN_KERNEL_ADDRESS,
};
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, DumpAvail, KernelElf, PhysAddr, VirtAddr};

use super::{AddressSpace, Port, direct_map, root};
use crate::kernel::Kernel;
use crate::locate::error::LocateError;
use crate::locate::image::{KernelImage, Located};
use crate::locate::symbols::bitmap_follows_dump_avail;

/// The port.
pub(super) struct Arm64;

/// The maximum number of pairs in `dump_avail`.
const PAIRS: u64 = 256;

impl Port for Arm64 {
    fn arch(&self) -> &'static Architecture {
        &arm64::ARCHITECTURE
    }

    fn link(&self, _: &KernelElf) -> VirtAddr {
        VM_MIN_KERNEL_ADDRESS
    }

    fn confirm(&self, image: &KernelImage<'_>) -> Option<Located> {
        let field = |offset| image.value("kernel_pmap_store", offset, 8);
        let newer = field(PMAP.top as u64)
            .and_then(|va| image.pa(VirtAddr(va)))
            .filter(|table| {
                PMAP.also
                    .iter()
                    .any(|at| field(*at as u64) == Some(table.0))
            });
        let table = newer.or_else(|| image.pa(VirtAddr(field(PM_L0_12)?)))?;
        let lpa2 = image.value("pmap_lpa_enabled", 0, 1) == Some(1);
        let paging = match (pages_of_16_kib(image), lpa2) {
            (false, false) => Paging::Arm64,
            (false, true) => Paging::Arm64Lpa2,
            (true, false) => Paging::Arm64Pages16K,
            (true, true) => Paging::Arm64Lpa2Pages16K,
        };
        let is_valid =
            table.offset_in(paging.page_size()) == 0 && image.is_mapped_by(table, paging);
        is_valid.then_some(Located {
            kernphys: image.kernphys,
            root: table,
            paging,
        })
    }

    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<AddressSpace, LocateError> {
        let old = !bitmap_follows_dump_avail(kernel.elf());
        let first = if old {
            DMAP_MIN_ADDRESS_12
        } else {
            DMAP_MIN_ADDRESS
        };
        let dmap = direct_map(kernel, first..DMAP_MAX_ADDRESS)?;
        Ok(AddressSpace {
            kernbase: VM_MIN_KERNEL_ADDRESS,
            dmap: dmap.addresses,
            dmapphys: dmap.physical.start,
            phys_in_dmap: dmap.physical,
            // The lower half belongs to the process and has another root.
            roots: vec![root(located, VM_MIN_KERNEL_ADDRESS..=VirtAddr::MAX)],
        })
    }

    fn kva_limit(&self) -> VirtAddr {
        VM_MAX_KERNEL_ADDRESS
    }
}

/// Whether `vm_page_dump_pages` is the number of 16 KiB pages of `dump_avail`.
fn pages_of_16_kib(image: &KernelImage<'_>) -> bool {
    let Some(count) = image.value("vm_page_dump_pages", 0, 8) else {
        return false;
    };
    let mut ranges = Vec::new();
    for index in 0..PAIRS {
        let half = |offset| image.value("dump_avail", 16 * index + offset, 8);
        match (half(0), half(8)) {
            (Some(start), Some(end)) if end != 0 => ranges.push(PhysAddr(start)..PhysAddr(end)),
            _ => break,
        }
    }
    let page_size = Paging::Arm64Pages16K.page_size();
    DumpAvail::from_ranges(&ranges, page_size).is_ok_and(|avail| avail.bits() == count)
}
