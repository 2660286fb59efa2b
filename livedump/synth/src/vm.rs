//! The kernel's records of physical memory: `dump_avail`, `vm_phys_segs`, `vm_page_array`,
//! `vm_page_dump`, and the resulting contents of a dump.

use std::ops::Range;

use livecore_minidump::PhysAddr;

use super::architecture::Architecture;
use super::builder::Builder;
use super::content::PAGE;
use super::description::Description;
use super::error::Error;
use super::intervals::{Intervals, within, without};
use super::layout::Release;
use super::store::Source;
use super::truth::{Dumped, Prot, Why};
use super::variables::AFFINITY;
use super::vm_page::{Segment, VmPages};

/// Returns the memory in `dump_avail`.
pub(crate) fn dump_avail(
    description: &Description,
    ram: &[Range<u64>],
    firmware: Vec<Range<u64>>,
    max: usize,
) -> Result<Vec<Range<u64>>, Error> {
    let mut firmware = firmware;
    firmware.extend(description.memory.holes.iter().map(|(s, e)| s.0..e.0));
    firmware.sort_by_key(|range| range.start);
    if let Some(pair) = firmware.windows(2).find(|pair| pair[0].end > pair[1].start) {
        return Err(Error::value(
            "memory.holes",
            format!("[{:#x}, {:#x}]", pair[1].start, pair[1].end),
            "a range that overlaps no other and no firmware",
        ));
    }
    let avail: Vec<Range<u64>> = ram
        .iter()
        .flat_map(|range| without(range, &firmware))
        .collect();
    // The array ends with a pair of zeros.
    if avail.len() * 2 + 2 > max {
        return Err(Error::value(
            "memory.holes",
            format!("{} ranges", avail.len()),
            format!("at most {}", max / 2 - 1),
        ));
    }
    Ok(avail)
}

/// The physical addresses of each NUMA domain.
pub(crate) fn domains(b: &Builder<'_>) -> Vec<Range<u64>> {
    let count = u64::from(b.description.memory.domains);
    let start = b
        .dump_avail
        .first()
        .map_or(0, |range| range.start & !0x1f_ffff);
    let end = b.dump_avail.last().map_or(0, |range| range.end);
    let part = ((end - start) / count).next_multiple_of(2 << 20);
    let bound = |i: u64| {
        if i == count {
            end
        } else {
            (start + i * part).min(end)
        }
    };
    (0..count).map(|i| bound(i)..bound(i + 1)).collect()
}

/// Fills `mem_affinity` of a machine with several domains.
pub(crate) fn place_affinity(b: &mut Builder<'_>) -> Result<(), Error> {
    let domains = domains(b);
    if domains.len() == 1 {
        return Ok(());
    }
    let table = b.kernel.address("mem_info")?;
    b.set_word("mem_affinity", table)?;
    for (at, (domain, range)) in (table..)
        .step_by(AFFINITY as usize)
        .zip((0..).zip(&domains))
    {
        b.poke_word(at, range.start)?;
        b.poke_word(at + 8, range.end)?;
        b.poke_u32(at + 16, domain)?;
    }
    Ok(())
}

/// `vm_phys_segs`: `dump_avail` without `taken`, split at 16 MiB, at 4 GiB and between domains.
pub(crate) fn segments(
    avail: &[Range<u64>],
    taken: &[Range<u64>],
    domains: &[Range<u64>],
    page: u64,
) -> Vec<Segment> {
    let mut cuts = vec![16 << 20, 4 << 30, u64::MAX];
    cuts.extend(domains.iter().skip(1).map(|range| range.start));
    cuts.sort_unstable();
    let mut taken = taken.to_vec();
    taken.sort_by_key(|range| range.start);
    let mut segments = Vec::new();
    let mut first = 0;
    for range in avail.iter().flat_map(|range| without(range, &taken)) {
        let mut at = range.start;
        for cut in &cuts {
            let end = range.end.min(*cut);
            if at < end {
                segments.push(Segment {
                    pages: at..end,
                    first,
                });
                first += (end - at) / page;
                at = end;
            }
        }
    }
    segments
}

/// Number of bits of `vm_page_dump`.
pub(crate) fn bits(b: &Builder<'_>) -> u64 {
    let page = b.space.page_size;
    match b.description.release() {
        // By frame number, whole pages of bitmap.
        release if release.is_old() => {
            let last = b.dump_avail.last().map_or(0, |range| range.end);
            (last / page).div_ceil(8).next_multiple_of(page) * 8
        }
        _ => b
            .dump_avail
            .iter()
            .map(|range| range.end.div_ceil(page) - range.start / page)
            .sum(),
    }
}

/// Returns the physical range of the bitmap.
pub(crate) fn place_bitmap(b: &mut Builder<'_>) -> Result<Range<u64>, Error> {
    let page = b.space.page_size;
    let len = (bits(b).div_ceil(64) * 8).next_multiple_of(page);
    let at = b.frames.block("vm_page_dump", len, page)?;
    b.bits.push(at..at + len);
    Ok(at..at + len)
}

/// Places and fills `vm_phys_segs`, places `vm_page_array`, and returns its contents.
pub(crate) fn place_pages(
    b: &mut Builder<'_>,
    segments: Vec<Segment>,
) -> Result<Option<VmPages>, Error> {
    if !b.description.memory.vm_page_array {
        return Ok(None);
    }
    if b.description.content.free.0 > 0 && b.layout.vm_page.allocation.is_none() {
        let expected = "a 64-bit kernel since 13";
        return Err(Error::value(
            "content.free",
            format!("a kernel of {}", b.description.release().osrelease()),
            expected,
        ));
    }
    if segments.len() > b.layout.physseg_max as usize {
        return Err(Error::value(
            "memory.holes",
            format!("{} segments of vm_phys_segs", segments.len()),
            format!("at most {}", b.layout.physseg_max),
        ));
    }
    let pages = VmPages {
        segments,
        layout: b.layout.vm_page,
        nodump: Vec::new(),
        free: Vec::new(),
        page_size: b.space.page_size,
    };
    let page = PAGE as u64;
    let size = u64::from(pages.layout.size);
    let len = (pages.len() * size).next_multiple_of(b.space.page_size);
    let direct = !b.space.dmap.is_empty()
        && (b.description.memory.vm_page_array_in_direct_map
            || b.description.release().is_old()
            || !b.description.row().maps_pages
            || b.processor.large().is_none());
    let (at, va) = if direct {
        let at = b.frames.block("vm_page_array", len, b.space.page_size)?;
        b.bits.push(at..at + len);
        (at, b.dmap(at))
    } else {
        let level = b.bottom() - 1;
        let leaf = 1u64 << b.processor.format().shifts()[level];
        let size = len.next_multiple_of(leaf);
        let at = b.frames.block("vm_page_array", size, leaf)?;
        let va = b.kva.next_multiple_of(leaf);
        b.map(level, va, at, size, Prot::RW)?;
        b.kva = va + size;
        (at, va)
    };
    b.store
        .add_run(at / page..(at + len) / page, Source::VmPages);
    b.set_word("vm_page_array", va)?;
    b.set_word("vm_page_array_size", pages.len())?;
    let first = pages.segments.first().map_or(0, |s| s.pages.start);
    b.set_word("first_page", first / b.space.page_size)?;
    b.set_u32("vm_phys_nsegs", pages.segments.len() as u32)?;
    let (layout, domains) = (b.layout.phys_seg, domains(b));
    let table = b.kernel.address("vm_phys_segs")?;
    for (i, segment) in pages.segments.iter().enumerate() {
        let element = table + i as u64 * u64::from(layout.size);
        let paddr = b.layout.paddr as usize;
        b.poke(element, &segment.pages.start.to_le_bytes()[..paddr])?;
        let end = segment.pages.end.to_le_bytes();
        b.poke(element + paddr as u64, &end[..paddr])?;
        b.poke_word(
            element + u64::from(layout.first_page),
            va + segment.first * size,
        )?;
        let holds = |range: &Range<u64>| range.contains(&segment.pages.start);
        let domain = domains.iter().position(holds).unwrap_or(0);
        b.poke_u32(element + u64::from(layout.domain), domain as u32)?;
    }
    Ok(Some(pages))
}

/// Returns the index of the bit of a physical address in `dump_avail`.
fn bit(avail: &[Range<u64>], release: Release, page: u64, pa: u64) -> u64 {
    if release.is_old() {
        return pa / page;
    }
    let mut base = 0;
    for range in avail {
        if range.contains(&pa) {
            return base + pa / page - range.start / page;
        }
        base += range.end.div_ceil(page) - range.start / page;
    }
    base
}

/// Writes `dump_avail` and `vm_page_dump`.
pub(crate) fn write(b: &mut Builder<'_>, bitmap: &Range<u64>) -> Result<(), Error> {
    let release = b.description.release();
    let page = b.space.page_size;
    let array: Vec<u8> = b
        .dump_avail
        .iter()
        .flat_map(|range| [range.start, range.end])
        .flat_map(|at| at.to_le_bytes().into_iter().take(b.layout.paddr as usize))
        .collect();
    b.set("dump_avail", &array)?;
    b.set("phys_avail", &array)?;
    let at = if b.space.dmap.is_empty() {
        let (bottom, va) = (b.bottom(), b.kva);
        let len = bitmap.end - bitmap.start;
        b.map(bottom, va, bitmap.start, len, Prot::RW)?;
        b.kva = va + len + page;
        va
    } else {
        b.dmap(bitmap.start)
    };
    b.set_word("vm_page_dump", at)?;
    let count = bits(b);
    if release.is_old() {
        b.set_u32("vm_page_dump_size", (count / 8) as u32)?;
    } else {
        b.set_word("vm_page_dump_pages", count)?;
    }
    let ranges: Vec<Range<u64>> = b
        .bits
        .iter()
        .flat_map(|range| within(range, &b.dump_avail))
        .collect();
    for range in ranges {
        let first = bit(&b.dump_avail, release, page, range.start);
        let end = first + (range.end - range.start) / page;
        let mut at = first;
        while at < end {
            let word = at / 64;
            let next = ((word + 1) * 64).min(end);
            let mut bytes = [0; 8];
            b.store.read(bitmap.start + word * 8, &mut bytes);
            let mut value = u64::from_le_bytes(bytes);
            for k in at..next {
                value |= 1 << (k % 64);
            }
            b.store.write(bitmap.start + word * 8, &value.to_le_bytes());
            at = next;
        }
    }
    Ok(())
}

/// Returns the pages of a dump, and why: from the mappings and marks, not from the tables.
pub(crate) fn expected(b: &Builder<'_>, pages: Option<&VmPages>) -> Vec<Dumped> {
    let limit = b.space.dmap_phys..b.space.dmaplimit;
    let page = b.space.page_size;
    let mut set = Intervals::new();
    // Before 13, i386 checked `dump_avail` only.
    let asks =
        !(b.description.architecture == Architecture::I386 && b.description.release().is_old());
    let nodump = pages
        .filter(|_| asks)
        .map_or(&[][..], |pages| &pages.nodump);
    let mut add = |range: Range<u64>, why: Why| {
        for part in within(&range, std::slice::from_ref(&limit)) {
            for part in within(&part, &b.dump_avail) {
                for part in without(&part, nodump) {
                    set.add(part, why);
                }
            }
        }
    };
    for map in b.mappings.values() {
        add(map.pa.0..map.pa.0 + map.len, Why::Mapped);
    }
    for &(level, va, pa) in &b.tables.made {
        if va >= b.space.vm_min && b.processor.dumps_table(level) && !b.space.dmap.contains(&va) {
            add(pa..pa + page, Why::PageTable);
        }
    }
    for range in &b.bits {
        add(range.clone(), Why::Bit);
    }
    if let Some(pa) = window_table(b) {
        add(pa..pa + page, Why::PageTable);
    }
    set.merged()
        .into_iter()
        .map(|(range, why)| Dumped {
            pa: PhysAddr(range.start),
            len: range.end - range.start,
            why,
        })
        .collect()
}

/// Returns the page table that the kernel maps while it walks, and therefore finds.
fn window_table(b: &Builder<'_>) -> Option<u64> {
    let (variable, span) = b.processor.window()?;
    let at = b.phys(b.kernel.address(variable).ok()?).ok()?;
    let mut bytes = [0; 8];
    let len = b.layout.word as usize;
    b.store.read(at, &mut bytes[..len]);
    let base = u64::from_le_bytes(bytes) & !(span - 1);
    let mut made = b.tables.made.iter();
    let found = made.find(|(level, va, _)| (*level, *va) == (b.bottom(), base))?;
    Some(found.2)
}
