//! ELF files around images: segments through the reader of cores, and sections, which Xen uses
//! instead.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_defs::elf::{PT_LOAD, PT_NOTE};
use livecore_defs::foreign::ELF_FILE;
use livecore_minidump::ByteOrder;
use livecore_minidump::Error;
use livecore_minidump::elf::core::{ElfCore, Note, notes_at};
use livecore_minidump::elf::headers::{Head, Section};

use super::format::not_an_image;
use super::options::Options;
use super::pieces::{Linear, Pieces};
use super::qemu_paging::{self, Piece};
use super::source::Source;

/// An ELF core.
pub(super) struct ElfImage {
    pub(super) core: ElfCore,
    pub(super) sections: Vec<Section>,
    /// Whether the file ends before the section names, which are empty then.
    pub(super) lacks_names: bool,
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
                what: not_an_image(ELF_FILE),
            });
        }
        source.require("ELF header", 0, parsed.class.ehdr as u64)?;
        let core = ElfCore::parse(Arc::clone(source.bytes()))?;
        let read = |region: &str, offset: u64, len: u64| {
            source.table(&format!("ELF {region}"), offset, len, options)
        };
        let lacks_names = Cell::new(false);
        let names = |region: &str, offset: u64, len: u64| {
            lacks_names.set(source.require(region, offset, len).is_err());
            match lacks_names.get() {
                true => Ok(Vec::new()),
                false => read(region, offset, len),
            }
        };
        let sections = parsed.sections(&read, &names)?;
        Ok(Some(Self {
            core,
            sections,
            lacks_names: lacks_names.get(),
        }))
    }

    /// The offset and size of the section with this name.
    pub(super) fn section(&self, name: &str) -> Option<(u64, u64)> {
        let found = self.sections.iter().find(|section| section.name == name)?;
        Some((found.offset, found.size))
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
        collect(options, |sink| self.core.notes(sink))
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
                        len: len.min(source.len().saturating_sub(segment.offset)),
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
                what: not_an_image("the core of a process, which has only virtual addresses"),
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

/// Reads little-endian notes outside of a segment: `len` bytes at `offset` of the file.
pub(super) fn notes(
    source: &Source,
    region: &str,
    offset: u64,
    len: u64,
    options: &Options,
) -> Result<Vec<Note>, Error> {
    source.require(region, offset, len)?;
    let bytes = &**source.bytes();
    collect(options, |sink| {
        notes_at(bytes, ByteOrder::Little, offset, len, sink)
    })
}

/// Collects the notes that `read` passes to its sink.
fn collect(
    options: &Options,
    read: impl FnOnce(&mut dyn FnMut(Note) -> ControlFlow<()>) -> Result<(), Error>,
) -> Result<Vec<Note>, Error> {
    let (mut all, mut size, mut allowed) = (Vec::new(), 0, Ok(()));
    read(&mut |note| {
        size += (size_of::<Note>() + note.name.len() + note.description.len()) as u64;
        allowed = options.allow("ELF notes", size);
        all.push(note);
        flow(&allowed)
    })?;
    allowed.map(|()| all)
}
