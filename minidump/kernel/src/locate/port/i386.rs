//! i386, with and without PAE.
//!
//! Since 12.0 the kernel's addresses are its physical ones; up to 11 they are 3 GiB above. There is
//! no direct map.

use livecore_defs::i386;
use livecore_minidump::mmu::Paging;
use livecore_minidump::{Architecture, KernelElf, PhysMemory};

use super::{Port, Space, root};
use crate::kernel::Kernel;
use crate::locate::error::LocateError;
use crate::locate::image::{Image, Located};
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

    fn link(&self, elf: &KernelElf) -> u64 {
        // Physical 0 is at `KERNBASE`, or where it is.
        match elf.symbol("kernbase") {
            Some(kernbase) if kernbase.value >= KERNBASE_11 => kernbase.value,
            _ => 0,
        }
    }

    fn roots(&self) -> &'static [&'static str] {
        &["kernbase"]
    }

    fn places<'a>(&self, _: &'a dyn PhysMemory) -> Box<dyn Iterator<Item = u64> + 'a> {
        Box::new(std::iter::once(0))
    }

    fn is_moved(&self) -> bool {
        false
    }

    fn nowhere(&self) -> &'static str {
        "another address than its own"
    }

    fn confirm(&self, image: &Image<'_>) -> Option<Located> {
        tables(image).find_map(|(name, paging)| {
            // Nobody moves it: its first directory entry is where it is linked to be.
            let first = image.elf.text().first().map(|text| text.start);
            let first = first.or_else(|| image.variable("version"))?;
            let span = paging.geometry().directory().span();
            let kernphys = image.pa(first)? & !(span - 1);
            let value = image.value(name, 0, 4)?;
            // A kernel address, or, up to 11, a physical one.
            [image.pa(value), Some(value)]
                .into_iter()
                .flatten()
                .find(|table| {
                    // The table of four pointers has 32 bytes, and is aligned to them.
                    table.is_multiple_of(32) && image.is_mapped_by(*table, paging)
                })
                .map(|table| Located {
                    kernphys,
                    root: table,
                    paging,
                })
        })
    }

    fn space(&self, kernel: &Kernel<'_>, located: &Located) -> Result<Space, LocateError> {
        // A number, which the assembler gives a name (`KERNBASE`).
        let kernbase = address(kernel.elf(), "kernbase")?;
        let step = located.paging.geometry().directory().span();
        if kernbase > u64::from(u32::MAX) || !kernbase.is_multiple_of(step) {
            return Err(LocateError::Contradiction {
                what: "kernbase",
                found: format!("{kernbase:#x}"),
                expected: format!("a multiple of {step:#x} below 4 GiB"),
            });
        }
        Ok(Space {
            kernbase,
            dmap: 0..0,
            dmapphys: 0,
            phys_in_dmap: 0..u64::MAX,
            roots: vec![root(located, 0..=u64::from(u32::MAX))],
        })
    }

    fn kva_limit(&self) -> u64 {
        1 << 32
    }
}

/// The variables that may name the root, and the form of what they name.
///
/// The kernel since 13 has both forms in it, and `pae_mode` says which one runs. Before, it was
/// compiled for one, and only that with PAE has `IdlePDPT`.
fn tables(image: &Image<'_>) -> impl Iterator<Item = (&'static str, Paging)> {
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
