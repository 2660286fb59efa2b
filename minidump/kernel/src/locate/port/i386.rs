//! i386, with and without PAE.
//!
//! Since 12.0, the kernel's virtual addresses are equal to its physical ones. Up to 11, they are 3
//! GiB higher. There is no direct map.

use livecore_defs::i386;
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, KernelElf, PhysAddr, PhysMemory, VirtAddr};

use super::{AddressSpace, Port, root};
use crate::kernel::Kernel;
use crate::locate::error::LocateError;
use crate::locate::image::{KernelImage, Located};
use crate::locate::symbols::address;

/// The port.
pub(super) struct I386;

/// The lowest `KERNBASE` up to 11 (`KVA_PAGES` of 3 GiB); by default it is 3 GiB. Since 12.0 it is
/// 8 MiB at most.
const KERNBASE_11: u64 = 0x4000_0000;

impl Port for I386 {
    fn arch(&self) -> &'static Architecture {
        &i386::ARCHITECTURE
    }

    fn link(&self, elf: &KernelElf) -> VirtAddr {
        // Physical address 0 is at virtual address `KERNBASE` or 0.
        match elf.symbol("kernbase") {
            Some(kernbase) if kernbase.value >= KERNBASE_11 => VirtAddr(kernbase.value),
            _ => VirtAddr(0),
        }
    }

    fn roots(&self) -> &'static [&'static str] {
        &["kernbase"]
    }

    fn places<'a>(&self, _: &'a dyn PhysMemory) -> Box<dyn Iterator<Item = PhysAddr> + 'a> {
        Box::new(std::iter::once(PhysAddr(0)))
    }

    fn is_moved(&self) -> bool {
        false
    }

    fn expected_address(&self) -> &'static str {
        "its linked address"
    }

    fn confirm(&self, image: &KernelImage<'_>) -> Option<Located> {
        tables(image).find_map(|(name, paging)| {
            // The kernel is never moved: its first directory entry is that of its linked address.
            let first = image.elf.text().first().map(|text| text.start);
            let first = first.or_else(|| image.variable("version"))?;
            let span = paging.geometry().directory().span();
            let kernphys = image.pa(first)?.align_down(span);
            let value = image.value(name, 0, 4)?;
            // `value` is a virtual address, or, up to 11, a physical one.
            [image.pa(VirtAddr(value)), Some(PhysAddr(value))]
                .into_iter()
                .flatten()
                .find(|table| {
                    // The page-directory-pointer table is 32 bytes and aligned to 32 bytes.
                    table.offset_in(32) == 0 && image.is_mapped_by(*table, paging)
                })
                .map(|table| Located {
                    kernphys,
                    root: table,
                    paging,
                })
        })
    }

    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<AddressSpace, LocateError> {
        // `kernbase` is a constant (`KERNBASE`).
        let kernbase = address(kernel.elf(), "kernbase")?;
        let step = located.paging.geometry().directory().span();
        if kernbase > u64::from(u32::MAX) || !kernbase.is_multiple_of(step) {
            return Err(LocateError::Contradiction {
                what: "kernbase",
                found: format!("{kernbase:#x}"),
                expected: format!("a multiple of {step:#x} below 4 GiB"),
            });
        }
        Ok(AddressSpace {
            kernbase: VirtAddr(kernbase),
            dmap: VirtAddr(0)..VirtAddr(0),
            dmapphys: PhysAddr(0),
            phys_in_dmap: PhysAddr(0)..PhysAddr::MAX,
            roots: vec![root(located, VirtAddr(0)..=VirtAddr(u64::from(u32::MAX)))],
        })
    }

    fn kva_limit(&self) -> VirtAddr {
        VirtAddr(1 << 32)
    }
}

/// Returns the variables that can have the root's address, and the format of the page tables.
///
/// Kernels since 13 support both formats, and `pae_mode` is the current one. Earlier kernels were
/// compiled for one format, and only those with PAE have `IdlePDPT`.
fn tables(image: &KernelImage<'_>) -> impl Iterator<Item = (&'static str, Paging)> {
    use Paging::{I386, I386Pae, I386PaeDirectories};
    let known: &[(&str, Paging)] = match image.value("pae_mode", 0, 4) {
        Some(0) => &[("IdlePTD_nopae", I386), ("IdlePTD", I386)],
        Some(_) => &[
            ("IdlePDPT", I386Pae),
            ("IdlePTD_pae", I386PaeDirectories),
            ("IdlePTD", I386PaeDirectories),
        ],
        None if image.variable("IdlePDPT").is_some() => {
            &[("IdlePDPT", I386Pae), ("IdlePTD", I386PaeDirectories)]
        }
        None => &[("IdlePTD", I386)],
    };
    known.iter().copied()
}
