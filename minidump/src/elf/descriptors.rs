//! Function descriptors of the powerpc64 ABI ELFv1. The symbol of a function is the address of a
//! descriptor in `.opd`. The first doubleword of the descriptor is the address of the code.
//!
//! A kernel is position-independent: `R_PPC64_RELATIVE` relocations set the doublewords when it is
//! loaded. FreeBSD kernels use ELFv1 up to 12. Later kernels and all little-endian kernels use ELFv2,
//! which has no descriptors (64-Bit PowerPC ELF ABI, 3.2.5).

use std::collections::BTreeMap;
use std::ops::Range;

use goblin::elf::Header;
use goblin::elf::section_header::{SHT_NOBITS, SHT_RELA, SectionHeader};
use livecore_compress::ReadAt;

use super::{Section, table};
use crate::ByteOrder;

/// `EM_PPC64`
const EM_PPC64: u16 = 21;
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
        header: &Header,
        order: ByteOrder,
        sections: &[SectionHeader],
        named: &[Section],
    ) -> Option<Self> {
        if header.e_machine != EM_PPC64 || header.e_flags & EF_PPC64_ABI == 2 {
            return None;
        }
        let opd = named.iter().find(|section| section.name == ".opd")?;
        let opd = sections
            .iter()
            .find(|s| s.sh_offset == opd.offset && s.sh_size == opd.size && s.sh_size > 0)?;
        let addresses = opd.sh_addr..opd.sh_addr.checked_add(opd.sh_size)?;
        let mut code = BTreeMap::new();
        let word = |bytes: &[u8]| order.uint(bytes).unwrap_or(0); // eight bytes
        if opd.sh_type != SHT_NOBITS {
            let bytes = table(file, ".opd", opd.sh_offset, opd.sh_size).unwrap_or_default();
            let words = bytes.chunks_exact(8).map(word);
            let found = addresses.clone().step_by(8).zip(words);
            code.extend(found.filter(|(_, to)| *to != 0));
        }
        for section in sections.iter().filter(|s| s.sh_type == SHT_RELA) {
            let Ok(bytes) = table(file, "relocations", section.sh_offset, section.sh_size) else {
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
