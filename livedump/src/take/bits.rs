//! A kernel's `dump_avail` and its `vm_page_dump`: what it may dump, and what it would, before the
//! kernel map is added.

use std::ops::Range;

use livecore_kernel::locate::{LocateError, Variables, address, bitmap_follows_dump_avail};
use livecore_minidump::{DumpAvail, PhysAddr};

use super::dumpable::Dumpable;
use super::error::TakeError;
use super::marks::Marks;

/// A bit for every page up to the last of `dump_avail`, in whole pages of bits: 12.1's rule.
pub(super) fn by_number(avail: &DumpAvail, page_size: u64) -> DumpAvail {
    let bytes = avail.end().div_ceil(page_size).div_ceil(8);
    DumpAvail::from_zero(bytes.next_multiple_of(page_size) * 8, page_size)
}

/// The kernel's `dump_avail`, up to its terminator, and how many bytes its elements have: those of
/// `paddr_sizes` under which it makes sense. Memory ends at `top`.
pub(super) fn dump_avail(
    variables: Variables<'_>,
    top: u64,
    paddr_sizes: &[usize],
    page_size: u64,
) -> Result<(DumpAvail, usize), TakeError> {
    let mut first = None;
    for size in paddr_sizes {
        match dump_avail_of(variables, top, *size, page_size) {
            Ok(avail) => return Ok((avail, *size)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| LocateError::NoSymbol { name: "dump_avail" }.into()))
}

fn dump_avail_of(
    variables: Variables<'_>,
    top: u64,
    paddr_size: usize,
    page_size: u64,
) -> Result<DumpAvail, TakeError> {
    let symbol = variables
        .elf
        .symbol("dump_avail")
        .ok_or(LocateError::NoSymbol { name: "dump_avail" })?;
    // PHYS_AVAIL_COUNT elements; a page is what fits the section.
    let half = paddr_size as u64;
    let room = match symbol.size {
        size if (2 * half..4096).contains(&size) => size,
        _ => 4096,
    };
    let mut pairs = Vec::new();
    for index in 0..room / (2 * half) {
        let at = symbol.value.saturating_add(2 * half * index);
        let start = variables.uint_at("dump_avail", at, paddr_size)?;
        let end = variables.uint_at("dump_avail", at.saturating_add(half), paddr_size)?;
        if end == 0 {
            break;
        }
        pairs.push((start, end));
    }
    let avail = DumpAvail::from_pairs(&pairs, page_size)?;
    if avail.segments().is_empty() || avail.end() > top {
        return Err(TakeError::Contradiction {
            what: "dump_avail",
            found: format!("{} ranges up to {:#x}", pairs.len(), avail.end()),
            expected: format!("ranges within memory, which ends at {top:#x}"),
        });
    }
    Ok(avail)
}

/// The kernel's own bitmap, as it is before the kernel map is added.
pub(super) fn vm_page_dump(
    variables: Variables<'_>,
    avail: &DumpAvail,
    page: u64,
) -> Result<Marks, TakeError> {
    const CHUNK: usize = 64 << 10;
    let ranges = if bitmap_follows_dump_avail(variables.elf) {
        let pages = variables.long("vm_page_dump_pages")?;
        if pages != avail.bits() {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_pages",
                found: pages.to_string(),
                expected: format!("{}, the pages of dump_avail", avail.bits()),
            });
        }
        avail.clone()
    } else {
        let bytes = u64::from(variables.u32("vm_page_dump_size")?);
        let expected = avail.end().div_ceil(page).div_ceil(8);
        if bytes < expected || bytes > expected + page {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_size",
                found: format!("{bytes:#x}"),
                expected: format!("{expected:#x}, up to the end of dump_avail"),
            });
        }
        DumpAvail::from_zero(bytes * 8, page)
    };
    let mut marks = Marks::new(ranges, page)?;
    let start = variables.long_at("vm_page_dump", address(variables.elf, "vm_page_dump")?)?;
    // Words of 32 bits in little endian are halves of words of 64; the last one may be a half.
    let word = variables.elf.pointer_size() as u64;
    let len = marks.ranges().bits().div_ceil(8 * word) * word;
    let mut chunk = vec![0; CHUNK];
    for offset in (0..len).step_by(CHUNK) {
        let n = (len - offset).min(CHUNK as u64) as usize;
        variables.bytes(
            "vm_page_dump",
            start.saturating_add(offset),
            &mut chunk[..n],
        )?;
        chunk[n..n.next_multiple_of(8)].fill(0);
        let (words, _) = chunk[..n.next_multiple_of(8)].as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        marks.load(offset as usize / 8, words);
    }
    Ok(marks)
}

/// The same pages over other bits.
pub(super) fn reindex(
    mut marks: Marks,
    ranges: DumpAvail,
    page_size: u64,
) -> Result<Marks, TakeError> {
    let mut other = Marks::new(ranges, page_size)?;
    marks.retain(|page| {
        other.add(page..page + page_size);
        true
    });
    Ok(other)
}

/// Step 3 of the kernel's: what is beyond the direct map or not dumpable goes.
pub(super) fn filter(
    marks: &mut Marks,
    avail: &DumpAvail,
    phys_in_dmap: &Range<u64>,
    dumpable: &mut Dumpable<'_>,
) {
    without_holes(marks, std::slice::from_ref(phys_in_dmap));
    if dumpable.knows_pages() {
        marks.retain(|page| {
            dumpable.allows(page)
                && (dumpable.has_page(page) || avail.bit_of(PhysAddr(page)).is_some())
        });
    } else if !marks.ranges().is_known() {
        let ranges = avail.segments().iter().map(|s| s.start..s.end);
        without_holes(marks, &ranges.collect::<Vec<_>>());
    }
}

/// Takes away what is not in `ranges`, which are ascending.
pub(super) fn without_holes(marks: &mut Marks, ranges: &[Range<u64>]) {
    let mut end = 0;
    for range in ranges {
        marks.remove(end..range.start);
        end = range.end;
    }
    marks.remove(end..u64::MAX);
}
