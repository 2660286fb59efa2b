//! i386, with and without PAE.
//!
//! Since 12.0 the kernel's addresses are its physical ones; up to 11 they are 3 GiB above. There is
//! no direct map. The section holds page tables, one per directory entry from `KERNBASE` up; they
//! are no pages of the dump (`sys/i386/i386/minidump_machdep_base.c`).

use std::ops::{Range, RangeInclusive};

use livecore_defs::i386::SYNTHETIC_PTE;
use livecore_minidump::{Arch, KernelElf, MinidumpHeader};

use super::{Port, Space, root};
use crate::take::kernel::Variables;
use crate::take::locate::{Image, Located};
use crate::take::walk::{Flat, Walk};
use crate::take::{Machine, TakeError};
use livecore_minidump::PhysMemory;
use livecore_minidump::mmu::Paging;

/// The port.
pub(super) struct I386;

/// The lowest `KERNBASE` up to 11 (`KVA_PAGES` of 3 GiB); by default it is 3 GiB. Since 12.0 it is
/// 8 MiB at most.
const KERNBASE_11: u64 = 0x4000_0000;

impl Port for I386 {
    fn arch(&self) -> Arch {
        Arch::I386
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

    fn old_paddr_sizes(&self, paging: Paging) -> &'static [usize] {
        match paging {
            Paging::I386 => &[4],
            // `options PAE_TABLES` is PAE with physical addresses of 32 bits.
            _ => &[8, 4],
        }
    }

    fn asks_pages(&self, follows: bool) -> bool {
        // Its own `is_dumpable` knew `dump_avail` alone (10.4 and 12.1,
        // `sys/i386/i386/minidump_machdep.c`).
        follows
    }

    fn asks_tables(&self) -> bool {
        false
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
                through_window: true,
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
