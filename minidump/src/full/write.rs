//! Headers of a full dump that is converted from a minidump and contains it.

use crate::elf::export::{own_notes, payload_note};
use crate::elf::headers::Segment;
use crate::elf::write::CoreHead;
use crate::{Dump, Error, KernelMemory, VirtAddr};
use livecore_defs::elf::{
    CLASS32, CLASS64, ELFOSABI_STANDALONE, PF_R, PT_DUMP_DELTA, PT_LOAD, PT_NOTE,
};

/// Encodes everything before the minidump: ELF header, one program header per run of its pages,
/// notes with its offset and size (`payload_len`), zeros up to a page boundary.
pub(crate) fn head(dump: &Dump, payload_len: u64) -> Result<Vec<u8>, Error> {
    let mini = dump.header();
    let page = dump.layout().page_size();
    let wide = mini.pointer_size() == 8;
    let mut segments: Vec<Segment> = Vec::new();
    if let Some(delta) = &mini.arch.full_delta {
        let base = delta.base.unwrap_or(VirtAddr(mini.kernbase));
        if let Ok(pa) = dump.translate(base.wrapping_add(delta.hole)) {
            segments.push(Segment {
                kind: PT_DUMP_DELTA,
                flags: PF_R,
                vaddr: base.0,
                paddr: pa.0,
                align: delta.align,
                ..Segment::default()
            });
        }
    }
    let mut notes = own_notes(dump);
    let note = segments.len();
    segments.push(Segment {
        kind: PT_NOTE,
        flags: PF_R,
        filesz: (notes.len() + payload_note(mini.order, 0, 0).len()) as u64,
        align: 4,
        ..Segment::default()
    });
    for (rank, bit) in dump.bitmap().iter().enumerate() {
        let pa = dump.dump_avail().addr_of(bit);
        let (Some(pa), Some(offset)) = (pa, dump.layout().page_offset(rank as u64)) else {
            continue;
        };
        match segments.last_mut() {
            Some(last)
                if last.kind == PT_LOAD
                    && last.paddr.checked_add(last.memsz) == Some(pa.0)
                    && last.offset + last.memsz == offset =>
            {
                last.memsz += page;
            }
            _ => segments.push(Segment {
                kind: PT_LOAD,
                flags: PF_R,
                vaddr: match mini.arch.full_without_vaddr {
                    true => u64::MAX,
                    false => pa.0,
                },
                offset,
                paddr: pa.0,
                memsz: page,
                align: page,
                ..Segment::default()
            }),
        }
    }
    let head = CoreHead {
        class: if wide { &CLASS64 } else { &CLASS32 },
        order: mini.order,
        osabi: ELFOSABI_STANDALONE,
        machine: mini.arch.machine,
        flags: 0,
        version: 0,
    };
    let notes_at = head.len(segments.len() as u64);
    segments[note].offset = notes_at;
    let start = (notes_at + segments[note].filesz).next_multiple_of(page);
    notes.extend(payload_note(mini.order, start, payload_len));
    for segment in segments.iter_mut().filter(|s| s.kind == PT_LOAD) {
        segment.offset += start;
        segment.filesz = segment.memsz;
    }
    let end = start.saturating_add(dump.layout().end());
    let highest = segments
        .last()
        .map_or(0, |last| last.paddr.saturating_add(last.memsz));
    if !wide && end.max(highest) > u64::from(u32::MAX) {
        return Err(Error::Options(format!(
            "full dump would reach address or offset {:#x}: the limit for a 32-bit kernel is 4 GiB",
            end.max(highest)
        )));
    }
    let mut bytes = head.encode(segments.into_iter());
    bytes.extend(notes);
    bytes.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
    Ok(bytes)
}
