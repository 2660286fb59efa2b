//! Where in physical memory a kernel lies, before there are page tables to ask.
//!
//! The image is linear: `pa = va - link + X`, where `link` is the address that its start is linked
//! at and `X` is what is looked for. The bytes of `version` occur several times in memory; the
//! right `X` is the one under which they are where the file has them, and under which the kernel's
//! own variables agree with each other. What may be `X`, and which variables say so, is the
//! port's: `port`.

use std::sync::Arc;

use minidump::{KernelElf, KernelMemory, VirtAddr};

use super::TakeError;
use super::identify::identify;
use super::paging::Paging;
use super::port::Port;
use super::view::{MachineView, Root};
use crate::PhysMemory;

/// A kernel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Physical address of the start of the image; amd64's `kernphys`.
    pub kernphys: u64,
    /// Physical address of the root table of the kernel map: the value of `KPML4phys`, or the page
    /// at `pagetable_l0_ttbr1`, ….
    pub root: u64,
    /// The form of that table.
    pub paging: Paging,
}

/// A kernel's file held against memory, as if the image began at `kernphys`.
pub(super) struct Image<'a> {
    memory: &'a Arc<dyn PhysMemory>,
    pub(super) elf: &'a KernelElf,
    /// The address that its start is linked at.
    link: u64,
    /// Physical address of its start.
    pub(super) kernphys: u64,
}

impl Image<'_> {
    /// The physical address of an address of the image.
    pub(super) fn pa(&self, va: u64) -> Option<u64> {
        va.checked_sub(self.link)?.checked_add(self.kernphys)
    }

    /// The integer of `len` bytes, at most 8, at physical address `at`.
    pub(super) fn read(&self, at: u64, len: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.memory.read(at, &mut bytes[..len]).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The address of a variable.
    pub(super) fn variable(&self, name: &str) -> Option<u64> {
        let symbol = self.elf.symbol(name).filter(|symbol| !symbol.absolute)?;
        Some(symbol.value)
    }

    /// The integer of `len` bytes, at most 8, `offset` bytes into the variable `name`.
    pub(super) fn value(&self, name: &str, offset: u64, len: usize) -> Option<u64> {
        let at = self.variable(name)?.checked_add(offset)?;
        self.read(self.pa(at)?, len)
    }

    /// Whether tables of this form at `table` map the image to where it is: its first variable,
    /// its last one, and those that identify it.
    pub(super) fn is_mapped_by(&self, table: u64, paging: Paging) -> bool {
        let root = Root {
            covers: 0..=u64::MAX,
            table,
            paging,
        };
        let view = MachineView::new(self.memory.clone(), vec![root], paging.page_size());
        ["version", "dump_avail", "msgbufp"]
            .into_iter()
            .filter_map(|name| self.variable(name))
            .all(|va| {
                let found = view.translate(VirtAddr(va)).ok();
                found.is_some() && found.map(|pa| pa.0) == self.pa(va)
            })
    }
}

/// Finds `elf`'s kernel in `memory`.
pub(super) fn locate(
    memory: &Arc<dyn PhysMemory>,
    elf: &KernelElf,
    port: &dyn Port,
) -> Result<Located, TakeError> {
    if elf.symbols().next().is_none() {
        return Err(TakeError::Unsupported {
            what: "a kernel file without symbols: it was stripped of its symbol table".into(),
        });
    }
    let version = elf
        .symbol("version")
        .ok_or(TakeError::NoSymbol { name: "version" })?;
    for name in port.roots() {
        super::kernel::address(elf, name)?;
    }
    let link = port.link(elf);
    let offset = version
        .value
        .checked_sub(link)
        .ok_or_else(|| TakeError::Contradiction {
            what: "version",
            found: format!("address {:#x}", version.value),
            expected: format!("an address of the kernel's image, from {link:#x} up"),
        })?;
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
    for kernphys in port.places(&**memory) {
        if let Some(own) = &own {
            let Some(at) = kernphys.checked_add(offset) else {
                continue;
            };
            let mut there = vec![0; len];
            if memory.known_zero(at, len as u64)
                || memory.read(at, &mut there).is_err()
                || there != *own
            {
                continue;
            }
            with_version += 1;
        }
        let image = Image {
            memory,
            elf,
            link,
            kernphys,
        };
        found.extend(port.confirm(&image));
    }
    // A copy of an image that lies about (an earlier boot's) is not mapped where it lies.
    if found.len() > 1 {
        found.retain(|here: &Located| {
            let kernphys = here.kernphys;
            let image = Image {
                memory,
                elf,
                link,
                kernphys,
            };
            image.is_mapped_by(here.root, here.paging)
        });
    }
    let why = match found.as_slice() {
        [one] => return Ok(*one),
        [] if own.is_some() && with_version == 0 => {
            no_version(memory, own.as_deref().unwrap_or_default(), port)
        }
        [] => format!(
            "{} makes no sense at any place ({with_version} had the version string)",
            port.roots().join(" or ")
        ),
        [first, second, ..] => format!(
            "it seems to be at {:#x} and at {:#x}",
            first.kernphys, second.kernphys
        ),
    };
    Err(TakeError::NoKernel { why })
}

/// What is said when the file's version string is nowhere where it should be: what the file has, and
/// what the memory has.
fn no_version(memory: &Arc<dyn PhysMemory>, own: &[u8], port: &dyn Port) -> String {
    let line = own.split(|b| matches!(b, 0 | b'\n')).next();
    let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    let found = identify(memory);
    let mut why = format!(
        "its version string, {line:?}, is at {}; {}",
        port.nowhere(),
        found.sentences().join("; ")
    );
    if found.versions.iter().any(|version| version.text == line) {
        why += "; another build of the same version runs, or the kernel is not where it should be";
    }
    why
}

/// The multiples of 2 MiB that are memory and below `limit`, `usual` first.
pub(super) fn multiples_of_2_mib(
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
