//! i386, with and without PAE.
//!
//! Since 12.0 the kernel's addresses are its physical ones; up to 11 they are 3 GiB above. There is
//! no direct map. The section holds page tables, one per directory entry from `KERNBASE` up; they
//! are no pages of the dump (`sys/i386/i386/minidump_machdep_base.c`).

use std::ops::{Range, RangeInclusive};

use minidump::defs::i386::SYNTHETIC_PTE;
use minidump::{Arch, KernelElf, MinidumpHeader};

use super::{Port, Space, root};
use crate::PhysMemory;
use crate::take::kernel::Variables;
use crate::take::locate::{Image, Located};
use crate::take::paging::Paging;
use crate::take::walk::{Flat, Walk};
use crate::take::{Machine, TakeError};

/// The port.
pub(super) struct I386;

/// `KERNBASE` up to 11: where the kernel's addresses begin, and physical 0 is.
const KERNBASE_11: u64 = 0xc000_0000;

impl Port for I386 {
    fn arch(&self) -> Arch {
        Arch::I386
    }

    fn link(&self, elf: &KernelElf) -> u64 {
        match elf.symbol("version") {
            Some(version) if version.value >= KERNBASE_11 => KERNBASE_11,
            _ => 0,
        }
    }

    fn roots(&self) -> &'static [&'static str] {
        &["kernbase"]
    }

    fn places<'a>(&self, _: &'a dyn PhysMemory) -> Box<dyn Iterator<Item = u64> + 'a> {
        Box::new(std::iter::once(0))
    }

    fn nowhere(&self) -> &'static str {
        "another address than its own"
    }

    fn confirm(&self, image: &Image<'_>) -> Option<Located> {
        // Nobody moves it: its first address is where it is linked to be.
        let kernphys = image
            .elf
            .symbol("kernbase")
            .and_then(|kernbase| image.pa(kernbase.value))?;
        tables(image).find_map(|(name, paging)| {
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

    fn space(&self, variables: Variables<'_>, located: &Located) -> Result<Space, TakeError> {
        // A number, which the assembler gives a name (`KERNBASE`).
        let kernbase = super::super::kernel::address(variables.elf, "kernbase")?;
        let step = located.paging.geometry().directory().span();
        if kernbase > u64::from(u32::MAX) || !kernbase.is_multiple_of(step) {
            return Err(TakeError::Contradiction {
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

    fn versions(&self, _: Paging) -> RangeInclusive<u32> {
        1..=2
    }

    fn old_paddr_size(&self, paging: Paging) -> usize {
        if paging == Paging::I386 { 4 } else { 8 }
    }

    fn header(&self, machine: &Machine, version: u32) -> MinidumpHeader {
        MinidumpHeader {
            arch: Arch::I386,
            version,
            kernbase: machine.kernbase,
            paemode: u32::from(machine.located.paging != Paging::I386),
            ..MinidumpHeader::default()
        }
    }

    fn walk(&self, walk: &mut Walk<'_, '_>, kva: Range<u64>) -> Result<(), TakeError> {
        walk.flat(
            kva,
            &Flat {
                synthetic: |_, frame| frame | SYNTHETIC_PTE,
                whole_blocks: false,
            },
        )
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
