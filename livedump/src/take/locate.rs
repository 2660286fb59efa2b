//! Where in physical memory an amd64 kernel lies, before there are page tables to ask.
//!
//! The image is linear: `pa = va - KERNSTART + X`, `X` a multiple of 2 MiB below 4 GiB (2 MiB
//! unless an UEFI loader moved it). The bytes of `version` occur several times in memory; the
//! right `X` is the one under which they are where the file has them, and under which the kernel's
//! own variables agree: `KPML4phys` is a table whose entry 256 points back at it, and `kernphys`,
//! where it is a variable, is `X`.

use minidump::KernelElf;
use minidump::defs::amd64::{
    KERNPHYS_USUAL, KERNSTART, NBPDR, NPTEPG, PAGE_SIZE, PG_FRAME, PG_V, PML4PML4I,
};

use super::TakeError;
use super::kernel::address;
use crate::PhysMemory;

/// `kernphys` beyond this does not occur.
const LIMIT: u64 = 1 << 32;

/// A kernel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Physical address of [`KERNSTART`].
    pub kernphys: u64,
    /// The value of `KPML4phys`.
    pub pml4: u64,
}

/// Finds `elf`'s kernel in `memory`.
pub fn locate(memory: &dyn PhysMemory, elf: &KernelElf) -> Result<Located, TakeError> {
    let version = elf
        .symbol("version")
        .ok_or(TakeError::NoSymbol { name: "version" })?;
    let kpml4phys = offset(address(elf, "KPML4phys")?, "KPML4phys")?;
    let kernphys = elf
        .symbol("kernphys")
        .filter(|symbol| !symbol.absolute && symbol.value >= KERNSTART)
        .map(|symbol| symbol.value - KERNSTART);
    let version_offset = offset(version.value, "version")?;
    let len = match version.size {
        1..=512 => version.size as usize,
        _ => 64,
    };
    let own = elf
        .bytes_at(version.value, len)
        .filter(|contents| contents.in_file && contents.bytes.iter().any(|b| *b != 0))
        .map(|contents| contents.bytes);

    let mut found = Vec::new();
    let mut with_version = 0_u32;
    for kernphys_here in candidates(memory) {
        if let Some(own) = &own {
            let at = kernphys_here + version_offset;
            let mut there = vec![0; len];
            if memory.known_zero(at, len as u64)
                || memory.read(at, &mut there).is_err()
                || there != *own
            {
                continue;
            }
            with_version += 1;
        }
        let moved = match kernphys {
            Some(variable) => read(memory, kernphys_here + variable) == Some(kernphys_here),
            None => true,
        };
        if moved && let Some(pml4) = root(memory, kernphys_here + kpml4phys) {
            found.push(Located {
                kernphys: kernphys_here,
                pml4,
            });
        }
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] if own.is_some() && with_version == 0 => Err(TakeError::NoKernel {
            why: "its version string is at no 2 MiB multiple below 4 GiB".into(),
        }),
        [] => Err(TakeError::NoKernel {
            why: format!(
                "KPML4phys or kernphys makes no sense at any place ({with_version} had the \
                 version string)"
            ),
        }),
        [first, second, ..] => Err(TakeError::NoKernel {
            why: format!(
                "it seems to be at {:#x} and at {:#x}",
                first.kernphys, second.kernphys
            ),
        }),
    }
}

/// A symbol's distance from the start of the image.
fn offset(va: u64, name: &'static str) -> Result<u64, TakeError> {
    va.checked_sub(KERNSTART)
        .ok_or_else(|| TakeError::Contradiction {
            what: name,
            found: format!("address {va:#x}"),
            expected: format!("an address of the kernel's image, from {KERNSTART:#x} up"),
        })
}

/// The multiples of 2 MiB that are memory and below 4 GiB, the usual one first.
fn candidates(memory: &dyn PhysMemory) -> impl Iterator<Item = u64> + '_ {
    let all = memory.ranges().iter().flat_map(|range| {
        let first = range.start.next_multiple_of(NBPDR);
        (first..range.end.min(LIMIT)).step_by(NBPDR as usize)
    });
    std::iter::once(KERNPHYS_USUAL).chain(all.filter(|x| *x != KERNPHYS_USUAL))
}

fn read(memory: &dyn PhysMemory, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(at, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// The table that the variable at `at` names, if it is a kernel's root: entry 256 is itself, and
/// the last entry, the kernel's own, is there.
fn root(memory: &dyn PhysMemory, at: u64) -> Option<u64> {
    let table = read(memory, at)?;
    if table == 0 || table & !PG_FRAME != 0 {
        return None;
    }
    let entry = |index: u64| read(memory, table + index * 8);
    let back = entry(PML4PML4I)?;
    let last = entry(NPTEPG - 1)?;
    (back & PG_V != 0 && back & PG_FRAME == table && last & PG_V != 0)
        .then_some(table)
        .filter(|table| table.is_multiple_of(PAGE_SIZE))
}
