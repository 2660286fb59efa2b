//! The header and the tables of a kernel file, whose sizes the file determines.

use goblin::elf::SectionHeader;
use livecore_compress::ReadAt;

use super::headers::{Head, Section};
use super::memory::Memory;
use crate::Error;

/// A section or segment in the address space.
pub(super) struct Piece {
    pub(super) va: u64,
    pub(super) len: u64,
    /// The offset of its contents in the file, and their length. The remaining bytes are zero.
    pub(super) offset: u64,
    pub(super) file_len: u64,
}

/// A broken region of a kernel file.
pub(super) fn bad(region: &str, offset: u64, found: impl Into<String>, expected: &str) -> Error {
    Error::broken(format!("kernel ELF, {region}"), offset, found, expected)
}

/// Reads bytes `offset..offset + len` of the file. It is an error if the file does not have them or the
/// memory limit is reached.
pub(super) fn table(
    file: &dyn ReadAt,
    memory: &Memory,
    region: &str,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, Error> {
    let size = file.size()?;
    if offset.checked_add(len).is_none_or(|end| end > size) {
        return Err(bad(
            region,
            offset,
            format!("{len:#x} bytes"),
            &format!("an end of at most {size:#x}, the file size"),
        ));
    }
    let mut bytes = memory.zeros(region, len)?;
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Reads the header of a file. `what` names the file in errors.
pub(super) fn open(file: &dyn ReadAt, what: &str) -> Result<Head, Error> {
    let mut head = [0; 64];
    let got = file.read_full_at(&mut head, 0)?;
    if !head[..got].starts_with(b"\x7fELF") {
        return Err(Error::Unsupported {
            what: format!(
                "{what} is not an ELF file: it starts with {}",
                livecore_defs::text::escaped(&head[..got], 8)
            ),
        });
    }
    Head::read(&head[..got]).map_err(|e| bad("header", 0, e.to_string(), "valid table"))
}

/// Reads the section headers. Only type information and modules need the names, so the sections have
/// no names if these cannot be read.
pub(super) fn read_sections(
    file: &dyn ReadAt,
    head: &Head,
    memory: &Memory,
) -> Result<Vec<Section>, Error> {
    // The parsed header, the section and its piece of contents.
    const PARSED: usize = size_of::<SectionHeader>() + size_of::<Section>() + size_of::<Piece>();
    head.sections(
        &|region, offset, len| {
            let count = len / head.class.shdr as u64;
            memory.take(region, count.saturating_mul(PARSED as u64))?;
            table(file, memory, region, offset, len)
        },
        &|region, offset, len| Ok(table(file, memory, region, offset, len).unwrap_or_default()),
    )
}
