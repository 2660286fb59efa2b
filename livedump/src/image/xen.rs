//! Xen cores, as written by `xl dump-core`: ELF files with sections.
//!
//! `.xen_pages` contains the pages, in any order. `.xen_pfn` has the frame number of each (for a
//! guest with hardware virtualization), or `.xen_p2m` has pairs of frame numbers (for a
//! paravirtualized one). `.note.Xen` has their number and size, `.xen_prstatus` the CPUs. Facts:
//! Xen `docs/misc/dump-core-format.txt`, `xen/include/public/arch-x86/xen.h`.
//!
//! Xen writes the frame numbers after the pages, and the names of the sections last
//! (`tools/libs/ctrl/xc_core.c`). If a file ends within the frame numbers, those that it has locate
//! their pages. Its sections have no names then, and their sizes identify them.

use livecore_defs::amd64::PAGE_SIZE;
use livecore_defs::elf::SHT_NOTE;
use livecore_minidump::Error;

use super::candidate::Row;
use super::cpu::{Control, CpuState, Segment, Segments, X86};
use super::elf::{ElfImage, notes};
use super::elf_core::not_elf;
use super::format::Format;
use super::memory_image::Image;
use super::options::Options;
use super::pieces::{Linear, Pieces};
use super::pt_regs;
use super::source::{Source, le64};

/// `XEN_ELFNOTE_DUMPCORE_HEADER`.
const HEADER_NOTE: u32 = 0x0200_0001;
/// `XC_CORE_MAGIC_HVM`.
const MAGIC_HVM: u64 = 0xf00f_ebee;
/// `XC_CORE_MAGIC`, of a paravirtualized guest.
const MAGIC_PV: u64 = 0xf00f_ebed;
/// `struct vcpu_guest_context` of 64-bit x86.
const CONTEXT: u64 = 5168;
/// A page that did not exist when the core was written.
const INVALID_PFN: u64 = u64::MAX;
/// Bytes of an entry of `.xen_pfn`.
const PFN: u64 = 8;
/// Bytes of an entry of `.xen_p2m`: the frame number of the guest and that of the machine.
const P2M: u64 = 16;
/// Bytes of a frame table for one read.
const BATCH: u64 = 64 << 10;

/// The sections of a Xen core, as offsets and sizes.
struct Sections {
    notes: (u64, u64),
    pages: (u64, u64),
    table: (u64, u64),
    /// Bytes for each frame number in `table`.
    entry: u64,
    status: Option<(u64, u64)>,
}

impl Sections {
    /// Finds the sections by their names.
    fn named(elf: &ElfImage) -> Result<Self, Error> {
        let section = |name: &str| {
            elf.section(name).ok_or_else(|| {
                Error::broken(
                    "ELF section headers",
                    elf.core.head().shoff,
                    format!("no {name}"),
                    "the section, which every Xen core has",
                )
            })
        };
        let (table, entry) = match (section(".xen_pfn"), section(".xen_p2m")) {
            (Ok(table), _) => (table, PFN),
            (_, Ok(table)) => (table, P2M),
            (Err(error), _) => return Err(error),
        };
        Ok(Self {
            notes: section(".note.Xen")?,
            pages: section(".xen_pages")?,
            table,
            entry,
            status: elf.section(".xen_prstatus"),
        })
    }

    /// Finds the sections by their sizes, which follow from the numbers in the header note.
    fn sized(elf: &ElfImage, source: &Source, options: &Options) -> Option<Self> {
        let sections = elf.sections.iter();
        sections.filter(|s| s.kind == SHT_NOTE).find_map(|notes| {
            let header = header(source, (notes.offset, notes.size), options).ok()??;
            let size = |each: u64| header.pages.checked_mul(each);
            let status = header.cpus.checked_mul(CONTEXT);
            let status = elf.sections.iter().find(|s| Some(s.size) == status);
            let [pages, table] = elf.sections.windows(2).find(|two| {
                let of_table = [size(PFN), size(P2M)].contains(&Some(two[1].size));
                of_table && Some(two[0].size) == size(PAGE_SIZE)
            })?
            else {
                return None;
            };
            Some(Self {
                notes: (notes.offset, notes.size),
                pages: (pages.offset, pages.size),
                table: (table.offset, table.size),
                entry: if Some(table.size) == size(PFN) {
                    PFN
                } else {
                    P2M
                },
                status: status.map(|s| (s.offset, s.size)),
            })
        })
    }
}

/// The note `XEN_ELFNOTE_DUMPCORE_HEADER`.
struct Header {
    offset: u64,
    magic: u64,
    cpus: u64,
    pages: u64,
    /// Bytes of a page.
    size: u64,
}

/// Reads the header note; `None` if there is none.
fn header(
    source: &Source,
    (at, len): (u64, u64),
    options: &Options,
) -> Result<Option<Header>, Error> {
    let notes = notes(source, ".note.Xen", at, len, options)?;
    let mut notes = notes.into_iter();
    let found = notes.find(|note| note.kind == HEADER_NOTE && note.description.len() >= 32);
    Ok(found.map(|note| {
        let word = |index: usize| le64(&note.description, 8 * index);
        Header {
            offset: note.offset,
            magic: word(0),
            cpus: word(1),
            pages: word(2),
            size: word(3),
        }
    }))
}

/// Whether the file is a Xen core.
fn probe(elf: &ElfImage, source: &Source, options: &Options) -> bool {
    elf.section(".xen_pages").is_some()
        || (elf.lacks_names && Sections::sized(elf, source, options).is_some())
}

/// Reads the memory and the CPUs.
fn open(
    elf: &ElfImage,
    source: &Source,
    options: &Options,
) -> Result<(Linear, Vec<CpuState>), Error> {
    let sections = match elf.lacks_names {
        true => Sections::sized(elf, source, options),
        false => None,
    };
    let sections = sections.map_or_else(|| Sections::named(elf), Ok)?;
    let Some(header) = header(source, sections.notes, options)? else {
        return Err(Error::broken(
            ".note.Xen",
            sections.notes.0,
            "no header note",
            "the note, which every Xen core has",
        ));
    };
    let Header {
        magic,
        cpus: count,
        pages,
        size,
        ..
    } = header;
    if !matches!(magic, MAGIC_HVM | MAGIC_PV) || size != PAGE_SIZE {
        return Err(Error::broken(
            "Xen header note",
            header.offset,
            format!("magic {magic:#x}, pages of {size:#x}"),
            format!("{MAGIC_HVM:#x} or {MAGIC_PV:#x}, pages of {PAGE_SIZE:#x}"),
        ));
    }
    let Sections {
        pages: (first, pages_len),
        table,
        entry,
        ..
    } = sections;
    for (name, section_len, each) in [
        (".xen_pages", pages_len, size),
        ("frame numbers", table.1, entry),
    ] {
        if pages
            .checked_mul(each)
            .is_none_or(|needed| needed > section_len)
        {
            return Err(Error::broken(
                "Xen header note",
                header.offset,
                format!("{pages:#x} pages"),
                format!("at most {:#x}, the size of {name}", section_len / each),
            ));
        }
    }
    if first.checked_add(pages_len).is_none() {
        return Err(Error::broken(
            "ELF section headers",
            elf.core.head().shoff,
            format!("{pages_len:#x} bytes of pages at offset {first:#x}"),
            "an end below 2^64",
        ));
    }
    // The frame numbers that the file contains, if it is truncated.
    let stored = source.len().saturating_sub(table.0) / entry;
    if stored == 0 {
        source.require("Xen frame numbers", table.0, pages * entry)?;
    }
    let known = pages.min(stored);

    let mut pieces = Pieces::new("Xen frame number", source, options);
    let mut batch = vec![0; BATCH as usize];
    let mut index = 0;
    while index < known {
        let batched = (known - index).min(BATCH / entry);
        let at = table.0 + index * entry;
        let part = &mut batch[..(batched * entry) as usize];
        source.bytes().read_exact_at(part, at)?;
        for (i, frame) in (0..).zip(part.chunks_exact(entry as usize)) {
            let (frame, recorded_at) = (le64(frame, 0), at + i * entry);
            if frame == INVALID_PFN {
                continue;
            }
            let pa = frame.checked_mul(size).ok_or_else(|| {
                Error::broken(
                    "Xen frame number",
                    recorded_at,
                    format!("{frame:#x}"),
                    "an address below 2^64",
                )
            })?;
            pieces.add(pa, size, first + (index + i) * size, recorded_at)?;
        }
        index += batched;
    }
    if elf.lacks_names {
        pieces.cut();
    }
    let mut memory = pieces.finish()?;
    if known < pages {
        memory.lack((pages - known) * size);
    }
    Ok((memory, cpus(sections.status, count, source, options)?))
}

/// The CPUs, if their contexts are those of 64-bit x86.
fn cpus(
    section: Option<(u64, u64)>,
    count: u64,
    source: &Source,
    options: &Options,
) -> Result<Vec<CpuState>, Error> {
    let Some((at, len)) = section else {
        return Ok(Vec::new());
    };
    if count == 0 || count.checked_mul(CONTEXT) != Some(len) {
        return Ok(Vec::new());
    }
    let bytes = source.table(".xen_prstatus", at, len, options)?;
    let contexts = bytes.chunks_exact(CONTEXT as usize);
    let states = (0..).zip(contexts);
    Ok(states.map(|(n, c)| CpuState::new(n, state(c))).collect())
}

/// `struct vcpu_guest_context`: FPU (512 bytes), flags, `struct cpu_user_regs` at 520, traps,
/// LDT and GDT, `ctrlreg` at 4984, `fs_base` and the two of GS at 5144.
fn state(c: &[u8]) -> X86 {
    // After the common part: es, ds, fs, gs.
    let frame = &c[520..];
    let s = |index: usize| pt_regs::selector(frame, pt_regs::WORDS + index);
    let state = pt_regs::parse(frame);
    X86 {
        segments: state.segments.map(|all| Segments {
            es: s(0),
            ds: s(1),
            fs: Segment {
                base: le64(c, 5144),
                ..s(2)
            },
            gs: Segment {
                base: le64(c, 5152),
                ..s(3)
            },
            kernel_gs_base: Some(le64(c, 5160)),
            ..all
        }),
        control: Some(Control {
            cr0: le64(c, 4984),
            cr2: le64(c, 5000),
            cr3: le64(c, 5008),
            cr4: le64(c, 5016),
        }),
        ..state
    }
}

/// The table row of the format.
pub(super) const XEN: Row = Row {
    probe: |candidate| {
        let (source, options) = (candidate.source()?, candidate.options);
        let elf = candidate.elf()?;
        Ok(elf.is_some_and(|elf| probe(elf, source, options)))
    },
    open: |candidate| {
        let source = candidate.source()?;
        let Some(elf) = candidate.elf()? else {
            return Err(not_elf());
        };
        let (memory, cpus) = open(elf, source, candidate.options)?;
        Ok(Image {
            cpus,
            ..Image::new(Format::Xen, source, memory)
        })
    },
};
