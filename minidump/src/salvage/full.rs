//! Salvages full dumps. The program headers give the offset of every range of memory, so lost bytes
//! cost only their own pages. The new program headers describe the pages that are left.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::salvage::{Piece, Proof};
use livecore_compress::{ReadAt, Window};

use super::found::Found;
use super::left::{Left, covered, good};
use super::options::{Known, Options};
use super::payload;
use super::report::PageCount;
use super::survey::add;
use crate::dump::carried::{self, CarriedRange};
use crate::elf::core::ElfCore;
use crate::elf::export::Joined;
use crate::elf::headers::{Head, Segment};
use crate::elf::write::CoreHead;
use crate::full::open::read_segments;
use crate::full::{MemoryRange, arch_of};
use crate::{Architecture, Error, KernelDumpHeader};
use livecore_defs::elf::{ELFOSABI_STANDALONE, PF_R, PT_LOAD};
use livecore_defs::foreign;

/// Maximum number of runs of pages.
const RUNS: usize = 1 << 22;

/// Whether the payload begins with the header of an ELF core.
pub(super) fn is_core(left: &Left) -> Result<bool, Error> {
    let mut head = [0; 64];
    if covered(left.pieces(), 0, 64).0 < 64 {
        return Ok(false);
    }
    left.content().read_exact_at(&mut head, 0)?;
    Ok(Head::parse(&head).is_some_and(|head| head.is_core()))
}

/// Salvages an ELF core: the minidump in it, or else its ranges of memory.
pub(super) fn examine(left: &mut Left, options: &Options, known: Known) -> Result<Found, Error> {
    if let Some(len) = known.len {
        left.place(len);
    }
    let core = ElfCore::parse(left.content()).map_err(headers_lost)?;
    let standalone = core.head().osabi == ELFOSABI_STANDALONE;
    let place = match carried::find(&core) {
        Ok(place) => place,
        // The ranges of a full dump can still be salvaged.
        Err(_) if standalone => None,
        Err(error) => return Err(headers_lost(error)),
    };
    if let Some(place) = &place {
        left.narrow(place.offset, place.len);
        let within = |at: u64| at.checked_sub(place.offset);
        let part = Known {
            len: Some(place.len),
            short: known.short,
            filled_from: known.filled_from.map(|at| within(at).unwrap_or(0)),
        };
        match payload::mini(left, options, part) {
            Ok(mut found) => {
                if let Some(header) = &place.header {
                    found.header = header.clone();
                }
                return Ok(found);
            }
            Err(error) if !standalone => return Err(error),
            Err(_) => left.widen(),
        }
    } else if !standalone {
        return Err(Error::NotADump {
            found: foreign::ELF_CORE.into(),
        });
    }
    of_ranges(&core, left, options, known, place.as_ref())
}

/// Size of the payload by its own headers.
pub(super) fn len(left: &Left, options: &Options) -> Result<Option<u64>, Error> {
    let core = ElfCore::parse(left.content())?;
    if let Some(place) = carried::find(&core)? {
        return Ok(place.offset.checked_add(place.len));
    }
    let limit = options.open.bitmap_limit / size_of::<MemoryRange>() as u64;
    Ok(Some(read_segments(&core, limit)?.end))
}

fn headers_lost(error: Error) -> Error {
    match error {
        Error::Io { source, .. } => Error::broken(
            "ELF header and program headers",
            0,
            source.to_string(),
            "undamaged headers: pages have no addresses without them",
        ),
        error => error,
    }
}

/// A run of pages that is left.
#[derive(Debug, Clone, Copy)]
struct Run {
    pa: u64,
    len: u64,
    /// Offset in the old payload.
    from: u64,
    /// Offset in the new payload, from the end of its headers.
    to: u64,
}

fn of_ranges(
    core: &ElfCore,
    left: &mut Left,
    options: &Options,
    known: Known,
    place: Option<&CarriedRange>,
) -> Result<Found, Error> {
    let head = *core.head();
    let arch = arch_of(&head)?;
    let limit = options.open.bitmap_limit / size_of::<MemoryRange>() as u64;
    let found = read_segments(core, limit).map_err(headers_lost)?;
    if known.len.is_none() {
        left.place(found.end);
    }
    let last = left.pieces().last().map_or(0, |piece| piece.content.end);
    let mut pieces = good(left, options);
    if let Some(end) = known.filled_from {
        pieces.retain(|piece| piece.content.start < end);
        if let Some(last) = pieces.last_mut() {
            last.content.end = last.content.end.min(end);
        }
    }
    let page = found.page_size;
    let (runs, pages) = survey(&found.ranges, &pieces, page)?;
    // The note of an unusable minidump is removed.
    let whole = pages.lost == 0 && place.is_none();
    let mut corrections = Vec::new();
    if place.is_some() {
        corrections.push("PT_NOTE: removed, its minidump cannot be used".into());
    }
    let trailing = last.saturating_sub(found.end);
    if trailing > 0 {
        corrections.push(format!(
            "payload: removed {trailing} bytes after the last page"
        ));
    }
    let head_len = first_page(&head, page, &runs, found.delta.is_some());
    // A complete dump keeps its headers.
    let unproven = unproven(&runs, &pieces, |run| match whole {
        true => run.from,
        false => head_len + run.to,
    });
    let payload: Arc<dyn ReadAt> = if whole {
        Arc::new(Window::new(left.content(), 0, found.end))
    } else {
        let head = new_head(&head, arch, page, &runs, found.delta);
        let body = Arc::new(PageRuns {
            runs,
            content: left.content(),
        });
        Arc::new(Joined { head, body })
    };
    Ok(Found {
        kind: "full",
        page_size: page,
        payload,
        pages,
        sections: Vec::new(),
        unproven_sections: 0,
        unproven,
        corrections,
        header: KernelDumpHeader::of_port(arch, head.order, page),
    })
}

/// Returns the ranges of the new payload that no checksum proves. `to` returns the offset of a run
/// in it.
fn unproven(runs: &[Run], pieces: &[Piece], to: impl Fn(&Run) -> u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    for run in runs {
        let first = pieces.partition_point(|piece| piece.content.end <= run.from);
        let end = run.from + run.len;
        for piece in pieces[first..].iter().take_while(|p| p.content.start < end) {
            if piece.proof == Proof::None {
                let at = |offset: u64| to(run) + (offset - run.from);
                let span = piece.content.start.max(run.from)..piece.content.end.min(end);
                add(&mut ranges, at(span.start)..at(span.end));
            }
        }
    }
    ranges
}

/// Joins adjacent pieces.
fn joined(pieces: &[Piece]) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for piece in pieces {
        match spans.last_mut() {
            Some(last) if last.end >= piece.content.start => {
                last.end = last.end.max(piece.content.end);
            }
            _ => spans.push(piece.content.clone()),
        }
    }
    spans
}

/// Returns the runs of pages that are left of `ranges`, and the page counts.
fn survey(
    ranges: &[MemoryRange],
    pieces: &[Piece],
    page: u64,
) -> Result<(Vec<Run>, PageCount), Error> {
    let there = joined(pieces);
    let unproven: Vec<Piece> = pieces
        .iter()
        .filter(|p| p.proof == Proof::None)
        .cloned()
        .collect();
    let unproven = joined(&unproven);
    let mut runs: Vec<Run> = Vec::new();
    let mut pages = PageCount::default();
    let (mut to, mut steps) = (0, 0);
    for range in ranges {
        let end = range.offset + range.len;
        pages.promised += range.len.div_ceil(page);
        let mut next = range.offset;
        let first = there.partition_point(|span| span.end <= range.offset);
        for span in there[first..].iter().take_while(|span| span.start < end) {
            steps += 1;
            if steps > RUNS {
                return Err(Error::Options(format!(
                    "full dump is damaged into more than {RUNS} pieces, the limit"
                )));
            }
            // Whole pages; the last one of a range may be shorter.
            let skip = span.start.saturating_sub(range.offset);
            let from = range.offset.saturating_add(skip.next_multiple_of(page));
            let until = match span.end {
                last if last >= end => end,
                last => range.offset + (last - range.offset) / page * page,
            };
            if from >= until {
                continue;
            }
            lose(&mut pages, range, next..from, page);
            next = until;
            let len = until - from;
            pages.kept += len.div_ceil(page);
            pages.unproven += touched(&unproven, from..until, page);
            let pa = range.start.0 + (from - range.offset);
            match runs.last_mut() {
                Some(last) if last.pa + last.len == pa && last.from + last.len == from => {
                    last.len += len;
                }
                _ => runs.push(Run { pa, len, from, to }),
            }
            to += len;
        }
        lose(&mut pages, range, next..end, page);
    }
    Ok((runs, pages))
}

/// Counts the pages of `range` at the payload offsets `gone` as lost.
fn lose(pages: &mut PageCount, range: &MemoryRange, gone: Range<u64>, page: u64) {
    if gone.is_empty() {
        return;
    }
    pages.lost += (gone.end - gone.start).div_ceil(page);
    let at = |offset: u64| range.start.wrapping_add(offset - range.offset);
    pages.add_lost_range(at(gone.start)..at(gone.end));
}

/// Number of pages of `run` that overlap any of `spans`. A page begins at the start of `run`.
fn touched(spans: &[Range<u64>], run: Range<u64>, page: u64) -> u64 {
    let first = spans.partition_point(|span| span.end <= run.start);
    let inside = spans[first..].iter().take_while(|s| s.start < run.end);
    inside
        .map(|span| {
            let from = (span.start.max(run.start) - run.start) / page;
            let to = (span.end.min(run.end) - run.start).div_ceil(page);
            to - from
        })
        .sum()
}

fn new_core(old: &Head) -> CoreHead {
    CoreHead {
        class: old.class,
        order: old.order,
        osabi: ELFOSABI_STANDALONE,
        machine: old.machine,
        flags: old.flags,
        version: 0,
    }
}

/// Offset of the first page in the new payload.
fn first_page(old: &Head, page: u64, runs: &[Run], delta: bool) -> u64 {
    let count = runs.len() as u64 + u64::from(delta);
    new_core(old).len(count).next_multiple_of(page)
}

/// Encodes the headers of the new payload, up to its first page.
fn new_head(
    old: &Head,
    arch: &'static Architecture,
    page: u64,
    runs: &[Run],
    delta: Option<Segment>,
) -> Vec<u8> {
    let head = new_core(old);
    let start = first_page(old, page, runs, delta.is_some());
    let loads = runs.iter().map(|run| Segment {
        kind: PT_LOAD,
        flags: PF_R,
        offset: start + run.to,
        vaddr: match arch.full_without_vaddr {
            true => u64::MAX,
            false => run.pa,
        },
        paddr: run.pa,
        filesz: run.len,
        memsz: run.len,
        align: page,
    });
    let segments: Vec<Segment> = delta.into_iter().chain(loads).collect();
    let mut bytes = head.encode(segments.into_iter());
    // At most the size of the runs in memory.
    bytes.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
    bytes
}

/// The pages that are left, one run after the other.
struct PageRuns {
    /// Ascending by offset.
    runs: Vec<Run>,
    content: Arc<dyn ReadAt>,
}

impl ReadAt for PageRuns {
    fn size(&self) -> io::Result<u64> {
        Ok(self.runs.last().map_or(0, |run| run.to + run.len))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let after = self.runs.partition_point(|run| run.to + run.len <= offset);
        let Some(run) = self.runs.get(after) else {
            return Ok(0);
        };
        let skip = offset - run.to;
        let left = usize::try_from(run.len - skip).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        self.content.read_at(&mut buf[..n], run.from + skip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PhysAddr;

    fn piece(content: Range<u64>, proof: Proof) -> Piece {
        Piece { content, proof }
    }

    #[test]
    fn partial_pages_are_lost_and_other_pages_keep_their_addresses() {
        let ranges = [
            MemoryRange {
                start: PhysAddr(0x1000),
                len: 0x4000,
                offset: 0x1000,
            },
            MemoryRange {
                start: PhysAddr(0x10_0000),
                len: 0x2800,
                offset: 0x5000,
            },
        ];
        let pieces = [
            piece(0..0x2fff, Proof::Checksum),
            piece(0x3000..0x6000, Proof::None),
            piece(0x6000..0x7800, Proof::Checksum),
        ];
        let (runs, pages) = survey(&ranges, &pieces, 0x1000).unwrap();
        let runs: Vec<_> = runs.iter().map(|r| (r.pa, r.len, r.from, r.to)).collect();
        assert_eq!(
            runs,
            [
                (0x1000, 0x1000, 0x1000, 0),
                (0x3000, 0x2000, 0x3000, 0x1000),
                (0x10_0000, 0x2800, 0x5000, 0x3000),
            ]
        );
        assert_eq!((pages.promised, pages.kept, pages.lost), (7, 6, 1));
        assert_eq!(pages.unproven, 3);
        assert_eq!(pages.ranges, [PhysAddr(0x2000)..PhysAddr(0x3000)]);
    }
}
