//! The ELF around an image: headers of segments and sections, and notes.
//!
//! Images are ELF cores of either class. More than 65534 program headers are counted in section 0
//! (`PN_XNUM`); QEMU writes that for guests with many mappings.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::program_header::{PT_LOAD, PT_NOTE};
use goblin::elf::section_header::SHT_NOBITS;
use goblin::elf::{Elf, Header, ProgramHeader, SectionHeader};
use minidump::Error;

use super::Options;
use super::pieces::{Linear, Pieces};
use super::source::Source;

/// `e_phnum` that means: look into `sh_info` of section 0.
const PN_XNUM: u16 = 0xffff;
/// A core file.
pub(super) const ET_CORE: u16 = 4;

/// Headers of an ELF file.
pub(super) struct ElfImage {
    pub(super) header: Header,
    ctx: Ctx,
    segments: Vec<ProgramHeader>,
    sections: Vec<SectionHeader>,
    names: Vec<u8>,
}

/// A note. All of its bytes are in memory.
#[derive(Debug)]
pub(super) struct Note {
    /// Its owner, without the zero at the end.
    pub(super) name: Vec<u8>,
    pub(super) kind: u32,
    pub(super) desc: Vec<u8>,
    /// Where the note is in the file.
    pub(super) offset: u64,
}

fn goblin_error(region: &'static str, offset: u64) -> impl Fn(goblin::error::Error) -> Error {
    move |e| Error::broken(region, offset, e.to_string(), "a well-formed table")
}

impl ElfImage {
    /// Reads the headers. `None` if it is no ELF.
    pub(super) fn read(source: &Source, options: &Options) -> Result<Option<Self>, Error> {
        let head: [u8; 64] = source.head()?;
        if !head.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let header = Elf::parse_header(&head).map_err(goblin_error("ELF header", 0))?;
        let ctx = Ctx::new(
            match header.e_ident[4] {
                2 => Container::Big,
                _ => Container::Little,
            },
            match header.e_ident[5] {
                2 => Endian::Big,
                _ => Endian::Little,
            },
        );
        let sections = sections(source, &header, ctx, options)?;
        let count = if header.e_phnum == PN_XNUM {
            let zero = sections.first().ok_or_else(|| {
                Error::broken(
                    "ELF header, e_phnum",
                    0,
                    "0xffff without sections",
                    "section 0, which has the number of program headers",
                )
            })?;
            u64::from(zero.sh_info)
        } else {
            u64::from(header.e_phnum)
        };
        let mut segments = Vec::new();
        if count > 0 {
            let len = count.saturating_mul(ProgramHeader::size(ctx) as u64);
            let bytes = source.table("ELF program headers", header.e_phoff, len, options)?;
            // `table` has proved that they are there, so the number fits.
            segments = ProgramHeader::parse(&bytes, 0, count as usize, ctx)
                .map_err(goblin_error("ELF program headers", header.e_phoff))?;
        }
        let names = match sections.get(usize::from(header.e_shstrndx)) {
            Some(section) if section.sh_type != SHT_NOBITS && header.e_shstrndx != 0 => source
                .table(
                    "ELF section names",
                    section.sh_offset,
                    section.sh_size,
                    options,
                )?,
            _ => Vec::new(),
        };
        Ok(Some(Self {
            header,
            ctx,
            segments,
            sections,
            names,
        }))
    }

    /// The section of this name: where it is and how long.
    pub(super) fn section(&self, name: &str) -> Option<(u64, u64)> {
        let found = self.sections.iter().find(|section| {
            let tail = self.names.get(section.sh_name..).unwrap_or_default();
            tail.strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&0))
        })?;
        Some((found.sh_offset, found.sh_size))
    }

    /// Whether any segment is to be loaded.
    pub(super) fn has_loads(&self) -> bool {
        self.segments.iter().any(|s| s.p_type == PT_LOAD)
    }

    /// The notes of all `PT_NOTE` segments.
    pub(super) fn notes(&self, source: &Source, options: &Options) -> Result<Vec<Note>, Error> {
        let mut all = Vec::new();
        let mut left = options.tables;
        for segment in self.segments.iter().filter(|s| s.p_type == PT_NOTE) {
            let (offset, len) = (segment.p_offset, segment.p_filesz);
            let bytes = source.table("ELF notes", offset, len, options)?;
            left = left.checked_sub(len).ok_or_else(|| {
                Error::Options(format!("ELF notes: more than {:#x} bytes", options.tables))
            })?;
            all.extend(notes(&bytes, offset, self.ctx.le == Endian::Big)?);
        }
        Ok(all)
    }

    /// The memory that the `PT_LOAD` segments hold, by their physical addresses. What a segment
    /// has in memory and not in the file is not there.
    pub(super) fn memory(&self, source: &Source, options: &Options) -> Result<Linear, Error> {
        let mut pieces = Pieces::new("ELF PT_LOAD", source, options);
        let entry = ProgramHeader::size(self.ctx) as u64;
        for (index, segment) in self.segments.iter().enumerate() {
            let len = segment.p_filesz.min(segment.p_memsz);
            if segment.p_type == PT_LOAD && len > 0 && segment.p_paddr != u64::MAX {
                let said_at = self.header.e_phoff + index as u64 * entry;
                pieces.add(segment.p_paddr, len, segment.p_offset, said_at)?;
            }
        }
        pieces.finish()
    }
}

fn sections(
    source: &Source,
    header: &Header,
    ctx: Ctx,
    options: &Options,
) -> Result<Vec<SectionHeader>, Error> {
    if header.e_shoff == 0 {
        return Ok(Vec::new());
    }
    let region = "ELF section headers";
    let entry = SectionHeader::size(ctx) as u64;
    let error = goblin_error(region, header.e_shoff);
    let mut count = u64::from(header.e_shnum);
    if count == 0 {
        // More than 65279 sections: section 0 says how many.
        let first = source.table(region, header.e_shoff, entry, options)?;
        let zero = SectionHeader::parse_from(&first, 0, 1, ctx).map_err(&error)?;
        count = zero.first().map_or(0, |section| section.sh_size).max(1);
    }
    let bytes = source.table(region, header.e_shoff, count.saturating_mul(entry), options)?;
    // `table` has proved that they are there, so the number fits.
    SectionHeader::parse_from(&bytes, 0, count as usize, ctx).map_err(error)
}

/// The notes of one segment, whose bytes lie at `offset` of the file.
pub(super) fn notes(bytes: &[u8], offset: u64, big_endian: bool) -> Result<Vec<Note>, Error> {
    let word = |at: usize| {
        let part = bytes.get(at..at + 4)?;
        let part = part.try_into().ok()?;
        Some(if big_endian {
            u32::from_be_bytes(part)
        } else {
            u32::from_le_bytes(part)
        })
    };
    let mut notes = Vec::new();
    let mut at = 0;
    while let (Some(namesz), Some(descsz), Some(kind)) = (word(at), word(at + 4), word(at + 8)) {
        let here = offset + at as u64;
        let name_at = at + 12;
        // Two 32-bit numbers and a length of memory: no sum overflows 64 bits.
        let desc_at = name_at as u64 + u64::from(namesz).next_multiple_of(4);
        let end = desc_at + u64::from(descsz);
        if end > bytes.len() as u64 {
            return Err(Error::broken(
                "ELF note",
                here,
                format!("a name of {namesz} and contents of {descsz} bytes"),
                format!("an end within the segment's {} bytes", bytes.len()),
            ));
        }
        // `end` is within `bytes`, so all of these are.
        let name = &bytes[name_at..name_at + namesz as usize];
        notes.push(Note {
            name: name.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
            kind,
            desc: bytes[desc_at as usize..end as usize].to_vec(),
            offset: here,
        });
        at = (end as usize).next_multiple_of(4);
    }
    Ok(notes)
}
