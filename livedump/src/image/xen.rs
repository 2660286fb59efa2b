//! Xen cores, as written by `xl dump-core`: ELF files with sections.
//!
//! `.xen_pages` contains the pages, in any order. `.xen_pfn` has the frame number of each (for a
//! guest with hardware virtualization), or `.xen_p2m` has pairs of frame numbers (for a
//! paravirtualized one). `.note.Xen` has their number and size, `.xen_prstatus` the CPUs. Facts:
//! Xen `docs/misc/dump-core-format.txt`, `xen/include/public/arch-x86/xen.h`.

use livecore_defs::amd64::PAGE_SIZE;
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
/// Bytes of a frame table for one read.
const BATCH: u64 = 64 << 10;

/// Whether the file is a Xen core.
fn probe(elf: &ElfImage) -> bool {
    elf.section(".xen_pages").is_some()
}

/// Reads the memory and the CPUs.
fn open(
    elf: &ElfImage,
    source: &Source,
    options: &Options,
) -> Result<(Linear, Vec<CpuState>), Error> {
    let missing = |name: &str| {
        Error::broken(
            "ELF section headers",
            elf.core.head().shoff,
            format!("no {name}"),
            "the section, which every Xen core has",
        )
    };
    let (at, len) = elf
        .section(".note.Xen")
        .ok_or_else(|| missing(".note.Xen"))?;
    let header = notes(source, ".note.Xen", at, len, options)?
        .into_iter()
        .find(|note| note.kind == HEADER_NOTE && note.description.len() >= 32)
        .ok_or_else(|| missing("header note in .note.Xen"))?;
    // Magic, CPUs, pages, bytes of a page.
    let word = |index: usize| le64(&header.description, 8 * index);
    let (magic, pages, size) = (word(0), word(2), word(3));
    if !matches!(magic, MAGIC_HVM | MAGIC_PV) || size != PAGE_SIZE {
        return Err(Error::broken(
            "Xen header note",
            header.offset,
            format!("magic {magic:#x}, pages of {size:#x}"),
            format!("{MAGIC_HVM:#x} or {MAGIC_PV:#x}, pages of {PAGE_SIZE:#x}"),
        ));
    }
    let (first, pages_len) = elf
        .section(".xen_pages")
        .ok_or_else(|| missing(".xen_pages"))?;
    let (table, entry) = match (elf.section(".xen_pfn"), elf.section(".xen_p2m")) {
        (Some(table), _) => (table, 8),
        (None, Some(table)) => (table, 16),
        (None, None) => return Err(missing(".xen_pfn")),
    };
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
        return Err(missing(".xen_pages"));
    }
    source.require("Xen frame numbers", table.0, pages * entry)?;

    let mut pieces = Pieces::new("Xen frame number", source, options);
    let mut batch = vec![0; BATCH as usize];
    let mut index = 0;
    while index < pages {
        let count = (pages - index).min(BATCH / entry);
        let at = table.0 + index * entry;
        let part = &mut batch[..(count * entry) as usize];
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
        index += count;
    }
    Ok((pieces.finish()?, cpus(elf, word(1), source, options)?))
}

/// The CPUs, if their contexts are those of 64-bit x86.
fn cpus(
    elf: &ElfImage,
    count: u64,
    source: &Source,
    options: &Options,
) -> Result<Vec<CpuState>, Error> {
    let Some((at, len)) = elf.section(".xen_prstatus") else {
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
    probe: |candidate| Ok(candidate.elf()?.is_some_and(probe)),
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
