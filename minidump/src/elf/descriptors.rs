//! Function descriptors of the powerpc64 ABI ELFv1. The symbol of a function is the address of a
//! descriptor in `.opd`. The first doubleword of the descriptor is the address of the code.
//!
//! A kernel is position-independent: `R_PPC64_RELATIVE` relocations set the doublewords when it is
//! loaded. FreeBSD kernels use ELFv1 up to 12. Later kernels and all little-endian kernels use ELFv2,
//! which has no descriptors (64-Bit PowerPC ELF ABI, 3.2.5).

use std::collections::BTreeMap;
use std::ops::Range;

use goblin::elf::section_header::{SHT_NOBITS, SHT_RELA};
use livecore_compress::ReadAt;

use super::headers::{Head, Section};
use super::memory::Memory;
use super::table::table;
use crate::ElfMachine;

/// The mask of the ABI version in `e_flags`. 0 is unspecified.
const EF_PPC64_ABI: u32 = 3;
const R_PPC64_RELATIVE: u64 = 22;
/// The size of an `Elf64_Rela`.
const RELA: usize = 24;

/// The descriptors in a kernel file.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// The addresses of `.opd`.
    addresses: Range<u64>,
    /// The linked address and value of the first doubleword of each descriptor.
    code: BTreeMap<u64, u64>,
}

impl Descriptors {
    /// Reads the descriptors of a file. Returns `None` if the file does not use descriptors.
    pub(super) fn read(
        file: &dyn ReadAt,
        head: &Head,
        sections: &[Section],
        memory: &Memory,
    ) -> Option<Self> {
        // A descriptor takes eight bytes in the file, and at most this number in the map.
        const IN_MAP: u64 = 64;
        if head.machine != ElfMachine::EM_PPC64 || head.flags & EF_PPC64_ABI == 2 {
            return None;
        }
        let opd = sections.iter().find(|section| section.name == ".opd")?;
        let addresses = opd.address..opd.address.checked_add(opd.size)?;
        if addresses.is_empty() {
            return None;
        }
        let mut code = BTreeMap::new();
        let word = |bytes: &[u8]| head.order.uint(bytes).unwrap_or(0); // eight bytes
        if opd.kind != SHT_NOBITS {
            let entries = (opd.size / 8).saturating_mul(IN_MAP);
            let bytes = memory.take(".opd", entries);
            let bytes = bytes.and_then(|()| table(file, memory, ".opd", opd.offset, opd.size));
            let bytes = bytes.unwrap_or_default();
            let words = bytes.chunks_exact(8).map(word);
            let found = addresses.clone().step_by(8).zip(words);
            code.extend(found.filter(|(_, to)| *to != 0));
        }
        for section in sections.iter().filter(|s| s.kind == SHT_RELA) {
            let region = "relocations";
            let entries = (section.size / RELA as u64).saturating_mul(IN_MAP);
            let bytes = memory.take(region, entries);
            let bytes =
                bytes.and_then(|()| table(file, memory, region, section.offset, section.size));
            let Ok(bytes) = bytes else {
                continue;
            };
            for entry in bytes.chunks_exact(RELA) {
                let (at, info, addend) =
                    (word(&entry[..8]), word(&entry[8..16]), word(&entry[16..]));
                if info & 0xffff_ffff == R_PPC64_RELATIVE && addresses.contains(&at) {
                    code.insert(at, addend);
                }
            }
        }
        Some(Self { addresses, code })
    }

    /// Whether no descriptor could be read.
    pub(super) fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// Whether a symbol of this value is a descriptor.
    pub(super) fn contains(&self, value: u64) -> bool {
        self.addresses.contains(&value)
    }

    /// Returns the address of the code of the function whose descriptor is at `value`, if known.
    pub(super) fn code(&self, value: u64) -> Option<u64> {
        self.code.get(&value).copied().filter(|to| *to != 0)
    }
}
