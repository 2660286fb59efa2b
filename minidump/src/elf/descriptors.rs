//! Function descriptors of powerpc64's first ABI (ELFv1): a function's symbol is the address of a
//! descriptor in `.opd`, whose first doubleword is the address of the function's code.
//!
//! A kernel is position independent: the doublewords are filled in while it is moved to where it
//! runs, by `R_PPC64_RELATIVE` relocations. FreeBSD's kernels have this ABI up to 12; later ones
//! and all little-endian ones have ELFv2, which has no descriptors (64-Bit PowerPC ELF ABI, 3.2.5).

use std::collections::BTreeMap;
use std::ops::Range;

use goblin::elf::Header;
use goblin::elf::section_header::{SHT_NOBITS, SHT_RELA, SectionHeader};
use livecore_compress::ReadAt;

use super::{Section, table};
use crate::ByteOrder;

/// `EM_PPC64`
const EM_PPC64: u16 = 21;
/// Of `e_flags`: the ABI's version; 0 is not said.
const EF_PPC64_ABI: u32 = 3;
const R_PPC64_RELATIVE: u64 = 22;
/// Bytes of an `Elf64_Rela`.
const RELA: usize = 24;

/// The descriptors of a kernel's file.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// Where they lie.
    place: Range<u64>,
    /// Link-time address of a descriptor's first doubleword, and what that is linked to be.
    code: BTreeMap<u64, u64>,
}

impl Descriptors {
    /// Reads what a file has; `None` if its functions' symbols are their code.
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
        let place = opd.sh_addr..opd.sh_addr.checked_add(opd.sh_size)?;
        let mut code = BTreeMap::new();
        let word = |bytes: &[u8]| order.uint(bytes).unwrap_or(0); // eight bytes
        if opd.sh_type != SHT_NOBITS {
            let bytes = table(file, ".opd", opd.sh_offset, opd.sh_size).unwrap_or_default();
            let words = bytes.chunks_exact(8).map(word);
            let found = place.clone().step_by(8).zip(words);
            code.extend(found.filter(|(_, to)| *to != 0));
        }
        for section in sections.iter().filter(|s| s.sh_type == SHT_RELA) {
            let Ok(bytes) = table(file, "relocations", section.sh_offset, section.sh_size) else {
                continue;
            };
            for entry in bytes.chunks_exact(RELA) {
                let (at, info, addend) =
                    (word(&entry[..8]), word(&entry[8..16]), word(&entry[16..]));
                if info & 0xffff_ffff == R_PPC64_RELATIVE && place.contains(&at) {
                    code.insert(at, addend);
                }
            }
        }
        Some(Self { place, code })
    }

    /// Whether nothing is known of any.
    pub(super) fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// Whether a symbol of this value is a descriptor.
    pub(super) fn contains(&self, value: u64) -> bool {
        self.place.contains(&value)
    }

    /// Where the code is of the function whose descriptor is at `value`, if the file says.
    pub(super) fn code(&self, value: u64) -> Option<u64> {
        self.code.get(&value).copied().filter(|to| *to != 0)
    }
}
