//! amd64.
//!
//! The kernel is at `kernphys`, a multiple of 2 MiB below 4 GiB: 2 MiB, unless a UEFI loader moved
//! it. `KPML4phys` is valid if entry 256 of that table points at the table itself. If `kernphys` is
//! a variable (since 13.1), its value must be the load address.
//!
//! With five levels, the entry that points at its own table is in the root, `KPML5phys`, and the
//! last entry of the root points at the table in `KPML4phys` (`sys/amd64/amd64/pmap.c`,
//! `create_pagetables`).

use std::ops::Range;

use livecore_defs::amd64;
use livecore_defs::amd64::{
    DMAP_MAX_ADDRESS, DMAP_MIN_ADDRESS, DMAP_MIN_ADDRESS_LA57, KERNBASE, KERNPHYS_USUAL, KERNSTART,
    NBPDR, NPTEPG, PG_FRAME, PG_V, PML4PML4I, PTE_SIZE, VM_MIN_KERNEL_ADDRESS,
};
use livecore_minidump::mmu::{Paging, Root};
use livecore_minidump::{Architecture, KernelElf, PhysAddr, PhysMemory, VirtAddr};

use super::{AddressSpace, Port, multiples_of_2_mib, root};
use crate::kernel::Kernel;
use crate::locate::error::LocateError;
use crate::locate::image::{KernelImage, Located};
use crate::locate::symbols::bitmap_follows_dump_avail;

/// The port.
pub(super) struct Amd64;

/// The limit of `kernphys`.
const LIMIT: PhysAddr = PhysAddr(1 << 32);

impl Port for Amd64 {
    fn arch(&self) -> &'static Architecture {
        &amd64::ARCHITECTURE
    }

    fn link(&self, _: &KernelElf) -> VirtAddr {
        KERNSTART
    }

    fn roots(&self) -> &'static [&'static str] {
        &["KPML4phys"]
    }

    fn places<'a>(&self, memory: &'a dyn PhysMemory) -> Box<dyn Iterator<Item = PhysAddr> + 'a> {
        Box::new(multiples_of_2_mib(memory, Some(KERNPHYS_USUAL), LIMIT))
    }

    fn expected_address(&self) -> &'static str {
        "a multiple of 2 MiB below 4 GiB"
    }

    fn confirm(&self, image: &KernelImage<'_>) -> Option<Located> {
        // Before 13.1, `kernphys` is a constant.
        let kernphys = image.variable("kernphys").filter(|at| *at >= KERNSTART);
        if kernphys.is_some() && image.value("kernphys", 0, 8) != Some(image.kernphys.0) {
            return None;
        }
        let table = image.value("KPML4phys", 0, 8)?;
        if table == 0 || table & !PG_FRAME != 0 {
            return None;
        }
        let entry = |table: u64, index: u64| {
            let at = PhysAddr(table).checked_add(index * PTE_SIZE as u64)?;
            let entry = image.read(at, PTE_SIZE)?;
            (entry & PG_V != 0).then_some(entry & PG_FRAME)
        };
        entry(table, NPTEPG - 1)?;
        // With five levels, the root points at itself, and its last entry at this table.
        let is_below_root = || {
            let top = image.value("KPML5phys", 0, 8)?;
            let is_root = top != 0 && top & !PG_FRAME == 0;
            let points = is_root && entry(top, PML4PML4I)? == top;
            Some(points && entry(top, NPTEPG - 1)? == table)
        };
        let is_valid = entry(table, PML4PML4I) == Some(table) || is_below_root() == Some(true);
        is_valid.then_some(Located {
            kernphys: image.kernphys,
            root: PhysAddr(table),
            paging: Paging::Amd64,
        })
    }

    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<AddressSpace, LocateError> {
        // Kernels use `PHYS_IN_DMAP` since 13. Before, only `dump_avail` limits the pages.
        let dmaplimit = match kernel.address("dmaplimit") {
            Ok(at) if bitmap_follows_dump_avail(kernel.elf()) => {
                kernel.uint_at("dmaplimit", at, 8)?
            }
            _ => 0,
        };
        let layout = match kernel.address("kva_layout") {
            Ok(at) => KvaLayout::read(kernel, at)?,
            Err(_) => KvaLayout {
                km_low: VM_MIN_KERNEL_ADDRESS,
                dmap: DMAP_MIN_ADDRESS..DMAP_MAX_ADDRESS,
                pml5: None,
            },
        };
        // In both layouts, the PML4 maps the upper half of the 48-bit addresses.
        let mut roots = vec![root(
            located,
            VirtAddr(0xffff_8000_0000_0000)..=VirtAddr::MAX,
        )];
        match layout.pml5 {
            None => roots.push(root(located, VirtAddr(0)..=VirtAddr((1 << 47) - 1))),
            Some(table) => roots.extend([0..=(1 << 56) - 1, 0xff00_0000_0000_0000..=u64::MAX].map(
                |covers| Root {
                    covers: VirtAddr(*covers.start())..=VirtAddr(*covers.end()),
                    table,
                    paging: Paging::Amd64La57,
                },
            )),
        }
        Ok(AddressSpace {
            kernbase: layout.km_low,
            dmap: layout.dmap,
            dmapphys: PhysAddr(0),
            phys_in_dmap: PhysAddr(0)..PhysAddr(match dmaplimit {
                0 => u64::MAX,
                limit => limit,
            }),
            roots,
        })
    }

    fn kva_end(&self, kernel: &Kernel<'_>) -> Result<VirtAddr, LocateError> {
        // The larger of the end of the boot mappings and the current end.
        let nkpt = kernel.variable("nkpt", 4)?;
        let boot = KERNBASE.saturating_add(nkpt * NBPDR);
        Ok(boot.max(kernel.pointer("kernel_vm_end")?))
    }

    fn kva_limit(&self) -> VirtAddr {
        VirtAddr::MAX
    }
}

/// `kva_layout`: the address space of a kernel that selects its layout at run time (since 15).
///
/// FreeBSD `sys/amd64/include/pmap.h`: fifteen words, of which `dmap_low` is the third, `dmap_high`
/// the fourth and `km_low` the seventh.
struct KvaLayout {
    km_low: VirtAddr,
    dmap: Range<VirtAddr>,
    pml5: Option<PhysAddr>,
}

impl KvaLayout {
    fn read(kernel: &Kernel<'_>, at: VirtAddr) -> Result<Self, LocateError> {
        let mut bytes = [0; 56];
        kernel.bytes_at("kva_layout", at, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| VirtAddr(u64::from_le_bytes(words[index]));
        let dmap = word(2)..word(3);
        let la57 = dmap.start == DMAP_MIN_ADDRESS_LA57;
        Ok(Self {
            km_low: word(6),
            dmap,
            pml5: if la57 {
                Some(PhysAddr(kernel.variable("KPML5phys", 8)?))
            } else {
                None
            },
        })
    }
}
