//! The headers of a full dump made of a minidump's pages.

use crate::defs::elf::{CLASS32, CLASS64, ELFOSABI_STANDALONE, PF_R, PT_DUMP_DELTA, PT_LOAD};
use crate::elf::core::Segment;
use crate::elf::write::CoreHead;
use crate::{Arch, Dump, Error, KernelMemory, VirtAddr};

/// Everything before the pages: ELF header, one program header per run of pages, zeros up to a
/// page. The pages follow as they lie in the minidump.
pub(crate) fn head(dump: &Dump) -> Result<Vec<u8>, Error> {
    let mini = dump.minidump();
    let page = dump.layout().page_size();
    let wide = mini.pointer_size() == 8;
    let mut segments: Vec<Segment> = Vec::new();
    if mini.arch == Arch::Arm
        && let Ok(pa) = dump.translate(VirtAddr(mini.kernbase))
    {
        segments.push(Segment {
            kind: PT_DUMP_DELTA,
            vaddr: mini.kernbase,
            paddr: pa.0,
            ..Segment::default()
        });
    }
    for bit in dump.bitmap().iter() {
        let Some(pa) = dump.dump_avail().addr_of(bit) else {
            continue;
        };
        match segments.last_mut() {
            Some(last)
                if last.kind == PT_LOAD && last.paddr.checked_add(last.memsz) == Some(pa.0) =>
            {
                last.memsz += page;
            }
            _ => segments.push(Segment {
                kind: PT_LOAD,
                flags: PF_R,
                vaddr: match mini.arch {
                    Arch::Powerpc64 => u64::MAX,
                    _ => pa.0,
                },
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
        machine: mini.arch.elf_machine(),
        flags: 0,
        version: 0,
    };
    let start = head.len(segments.len() as u64).next_multiple_of(page);
    let mut offset = start;
    for segment in segments.iter_mut().filter(|s| s.kind == PT_LOAD) {
        segment.offset = offset;
        segment.filesz = segment.memsz;
        offset += segment.filesz;
    }
    let highest = segments
        .last()
        .map_or(0, |last| last.paddr.saturating_add(last.memsz));
    if !wide && offset.max(highest) > u64::from(u32::MAX) {
        return Err(Error::Options(format!(
            "a full dump of a 32-bit kernel has addresses and offsets below 4 GiB, this one would \
             reach {:#x}",
            offset.max(highest)
        )));
    }
    let mut bytes = head.encode(segments.into_iter());
    bytes.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
    Ok(bytes)
}
