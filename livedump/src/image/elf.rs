//! ELF files around images: segments through the reader of cores, and sections, which Xen uses
//! instead.

use std::ops::ControlFlow;
use std::sync::Arc;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::section_header::SHT_NOBITS;
use goblin::elf::{Elf, Header, SectionHeader};
use livecore_defs::amd64::PAGE_SIZE;
use livecore_defs::elf::{PT_LOAD, PT_NOTE};
use livecore_defs::foreign::ELF_FILE;
use livecore_minidump::Error;
use livecore_minidump::elf::core::{ElfCore, Head, Note};

use super::options::Options;
use super::pieces::{Linear, Pieces};
use super::qemu_paging::{self, Piece};
use super::source::Source;

/// An ELF core.
pub(super) struct ElfImage {
    pub(super) core: ElfCore,
    sections: Vec<SectionHeader>,
    names: Vec<u8>,
}

fn goblin_error(region: &'static str, offset: u64) -> impl Fn(goblin::error::Error) -> Error {
    move |e| Error::broken(region, offset, e.to_string(), "a valid table")
}

impl ElfImage {
    /// Reads the headers. `None` if the file is not ELF.
    pub(super) fn read(source: &Source, options: &Options) -> Result<Option<Self>, Error> {
        let head: [u8; 64] = source.head()?;
        if !head.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let Some(parsed) = Head::parse(&head) else {
            return Err(Error::broken(
                "ELF header",
                4,
                format!("class {}, byte order {}", head[4], head[5]),
                "1 or 2 each",
            ));
        };
        if !parsed.is_core() {
            return Err(Error::Unsupported {
                what: format!("as a memory image: {ELF_FILE}"),
            });
        }
        source.require("ELF header", 0, parsed.class.ehdr as u64)?;
        let core = ElfCore::parse(Arc::clone(source.bytes()))?;
        let header = Elf::parse_header(&head).map_err(goblin_error("ELF header", 0))?;
        let sections = sections(source, &header, options)?;
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
            core,
            sections,
            names,
        }))
    }

    /// The offset and size of the section with this name.
    pub(super) fn section(&self, name: &str) -> Option<(u64, u64)> {
        let found = self.sections.iter().find(|section| {
            let tail = self.names.get(section.sh_name..).unwrap_or_default();
            tail.strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.first() == Some(&0))
        })?;
        Some((found.sh_offset, found.sh_size))
    }

    /// The notes of all `PT_NOTE` segments.
    pub(super) fn notes(&self, source: &Source, options: &Options) -> Result<Vec<Note>, Error> {
        let mut inside = Ok(());
        self.core.walk(&mut |_, segment| {
            if segment.kind == PT_NOTE {
                inside = source.require("ELF notes", segment.offset, segment.filesz);
            }
            flow(&inside)
        })?;
        inside?;
        let mut all = Vec::new();
        let mut size = 0;
        let mut allowed = Ok(());
        self.core.notes(&mut |note| {
            size += (size_of::<Note>() + note.name.len() + note.description.len()) as u64;
            allowed = options.allow("ELF notes", size);
            all.push(note);
            flow(&allowed)
        })?;
        allowed.map(|()| all)
    }

    /// The memory in the `PT_LOAD` segments, by physical address. The part of a segment beyond its
    /// file size is missing, unless `of_qemu` says that QEMU wrote the file with a segment for each
    /// mapping.
    pub(super) fn memory(
        &self,
        source: &Source,
        options: &Options,
        of_qemu: bool,
    ) -> Result<Linear, Error> {
        let mut pieces = Pieces::new("ELF PT_LOAD", source, options);
        let head = self.core.head();
        let (mut claimed, mut paging, mut start) = (Vec::new(), false, 0);
        let (mut physical, mut virtual_alone) = (false, false);
        let mut added = Ok(());
        self.core.walk(&mut |number, segment| {
            let len = segment.filesz.min(segment.memsz);
            if segment.kind == PT_LOAD && len > 0 {
                physical |= segment.paddr != 0;
                virtual_alone |= segment.paddr == 0 && segment.vaddr != 0;
            }
            if segment.kind == PT_LOAD && len > 0 && segment.paddr != u64::MAX {
                // The table is in the file, so the sum is a file offset.
                let recorded_at = head.phoff + number * head.class.phdr as u64;
                added = pieces.add(segment.paddr, len, segment.offset, recorded_at);
                if of_qemu {
                    claimed.push(Piece {
                        pa: segment.paddr,
                        len,
                        offset: segment.offset,
                    });
                    let needed = claimed.len() * size_of::<Piece>();
                    added = std::mem::replace(&mut added, Ok(()))
                        .and_then(|()| options.allow("ELF segments", needed as u64));
                    paging |= segment.memsz > len || segment.vaddr != 0;
                }
            } else if segment.kind == PT_NOTE {
                start = segment.offset.saturating_add(segment.filesz);
            }
            flow(&added)
        })?;
        if virtual_alone && !physical && !of_qemu {
            return Err(Error::Unsupported {
                what: "as a memory image: the core of a process, which has virtual addresses alone"
                    .into(),
            });
        }
        added?;
        if !paging {
            claimed.clear();
        }
        for more in qemu_paging::uncovered(claimed, start, source.len()) {
            // Drop an incomplete page at the end.
            pieces.add(more.pa, more.len - more.len % PAGE_SIZE, more.offset, 0)?;
        }
        pieces.finish()
    }
}

fn flow(result: &Result<(), Error>) -> ControlFlow<()> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

fn sections(
    source: &Source,
    header: &Header,
    options: &Options,
) -> Result<Vec<SectionHeader>, Error> {
    if header.e_shoff == 0 {
        return Ok(Vec::new());
    }
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
    let region = "ELF section headers";
    let entry = SectionHeader::size(ctx) as u64;
    let error = goblin_error(region, header.e_shoff);
    let mut count = u64::from(header.e_shnum);
    if count == 0 {
        // More than 65279 sections: section 0 has the number.
        let first = source.table(region, header.e_shoff, entry, options)?;
        let zero = SectionHeader::parse_from(&first, 0, 1, ctx).map_err(&error)?;
        count = zero.first().map_or(0, |section| section.sh_size).max(1);
    }
    let bytes = source.table(region, header.e_shoff, count.saturating_mul(entry), options)?;
    // `table` has checked that they are in the file, so the number fits.
    SectionHeader::parse_from(&bytes, 0, count as usize, ctx).map_err(error)
}

/// Parses little-endian notes outside of a segment, at `offset` of the file.
pub(super) fn notes(bytes: &[u8], offset: u64) -> Result<Vec<Note>, Error> {
    let word = |at: usize| {
        let part = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(part.try_into().ok()?))
    };
    let mut notes = Vec::new();
    let mut at = 0;
    while let (Some(namesz), Some(descsz), Some(kind)) = (word(at), word(at + 4), word(at + 8)) {
        let name_at = at + 12;
        // Two 32-bit numbers and the length of a buffer do not overflow 64 bits.
        let desc_at = name_at as u64 + u64::from(namesz).next_multiple_of(4);
        let end = desc_at + u64::from(descsz);
        if end > bytes.len() as u64 {
            return Err(Error::broken(
                "ELF note",
                offset + at as u64,
                format!("a name of {namesz} and contents of {descsz} bytes"),
                format!("a note within the {} bytes of the segment", bytes.len()),
            ));
        }
        // `end` is within `bytes`, so all of these are.
        let name = &bytes[name_at..name_at + namesz as usize];
        notes.push(Note {
            name: name.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
            kind,
            description: bytes[desc_at as usize..end as usize].to_vec(),
            offset: offset + desc_at,
        });
        at = (end as usize).next_multiple_of(4);
    }
    Ok(notes)
}
