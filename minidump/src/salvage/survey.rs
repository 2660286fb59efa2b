//! Finds the pages and the parts of the sections that are left of a minidump.

use std::ops::Range;

use livecore_compress::ReadAt;
use livecore_compress::salvage::{Piece, Proof};

use super::correct::Corrected;
use super::left::{Left, covered, good};
use super::options::{Known, Options};
use super::report::{PageCount, SectionLoss};
use crate::bitmap_section::{WordForm, bitmap_size};
use crate::dump::open::parse_header;
use crate::header::HEADER_BYTES;
use crate::{Bitmap, DumpAvail, Error, Layout, MinidumpHeader};
use livecore_defs::foreign::HEAD;

/// Maximum size of a `dump_avail` section. Kernels write one page.
const DUMP_AVAIL_LIMIT: u64 = 1 << 20;

/// Maximum size of lost page tables that are written as zeros, which map nothing.
const LOST_TABLES_MOST: u64 = 64 << 20;

/// Maximum number of unproven ranges, which use 16 MiB of memory.
const UNPROVEN_MOST: usize = 1 << 20;

/// The sections of a dump and what is left of them.
pub(super) struct Survey {
    /// Of the new payload.
    header: MinidumpHeader,
    /// Of the old payload.
    layout: Layout,
    /// Of the new one, without its pages.
    new_layout: Layout,
    corrected: Corrected,
    /// Corrections, as text.
    corrections: Vec<String>,
    form: WordForm,
    /// The old bitmap, with lost bits clear.
    old: Bitmap,
    /// Range from the first to the last lost bit.
    lost_bits: Option<(u64, u64)>,
    /// Number of lost bits that were set, if it follows from the size of the payload.
    lost_count: Option<u64>,
    /// The pages of the new dump.
    new: Bitmap,
    pieces: Vec<Piece>,
    pages: PageCount,
    losses: Vec<SectionLoss>,
    /// Ranges of the new payload that no checksum proves, and bytes of sections among them.
    unproven: Vec<Range<u64>>,
    unproven_sections: u64,
}

impl Survey {
    /// Reads the sections. Sets the size of the payload in `stored` if it follows from them.
    pub(super) fn new(stored: &mut Left, options: &Options, known: Known) -> Result<Self, Error> {
        if let Some(len) = known.len {
            stored.place(len);
        }
        let stated = header(stored, options)?;
        let reading = Reading::of(stored, options, known, &stated)?;
        let (layout, found) = (reading.layout, reading.found);
        // Kernels also write pages for bits after the last page of `dump_avail`.
        let end = layout.end() + found.stray.unwrap_or(0) * layout.page_size();
        if known.len.is_none() && found.lost.is_none() {
            stored.place(end);
        }
        let corrected = Corrected::new(stored, options, &stated, &reading.header, &reading.ranges)?;
        let lost_count = match (found.lost, found.stray) {
            (None, _) => Some(0),
            (Some((from, to)), Some(stray)) if !known.short => known
                .len
                .and_then(|len| len.checked_sub(layout.data_offset()))
                .and_then(|pages| (pages / layout.page_size()).checked_sub(stray))
                .and_then(|pages| pages.checked_sub(found.bits.count()))
                .filter(|lost| *lost <= to - from),
            _ => None,
        };
        let mut pieces = good(stored, options);
        if let Some(end) = known.filled_from {
            pieces.retain(|piece| piece.content.start < end);
            if let Some(last) = pieces.last_mut() {
                last.content.end = last.content.end.min(end);
            }
        }
        let trailing = pieces
            .last()
            .map_or(0, |p| p.content.end.saturating_sub(end));
        let mut corrections = corrected.corrections.clone();
        if trailing > 0 && found.lost.is_none() {
            corrections.push(format!(
                "payload: removed {trailing} bytes after the last page"
            ));
        }
        let form = WordForm {
            order: stated.order,
            long_size: stated.long_size(),
        };
        let mut survey = Self {
            header: corrected.header.clone(),
            new_layout: Layout::new(&corrected.header, 0).with_pmap_len(layout.pmap_len()),
            layout,
            form,
            corrected,
            corrections,
            old: found.bits,
            lost_bits: found.lost,
            lost_count,
            new: Bitmap::default(),
            pieces,
            pages: PageCount::default(),
            losses: Vec::new(),
            unproven: Vec::new(),
            unproven_sections: 0,
        };
        survey.find_unproven_sections();
        survey.count_pages(&reading.ranges)?;
        survey.count_sections();
        Ok(survey)
    }

    /// The minidump header.
    pub(super) fn header(&self) -> &MinidumpHeader {
        &self.header
    }

    /// The layout of the new payload, without pages.
    pub(super) fn new_layout(&self) -> Layout {
        self.new_layout
    }

    /// The new header and `dump_avail`.
    pub(super) fn corrected(&self) -> &Corrected {
        &self.corrected
    }

    /// The corrections, as text.
    pub(super) fn corrections(&self) -> &[String] {
        &self.corrections
    }

    /// Where sections and pages lie in the old payload.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The word format of the bitmap.
    pub(super) fn form(&self) -> WordForm {
        self.form
    }

    /// The pages of the new dump.
    pub(super) fn bitmap(&self) -> &Bitmap {
        &self.new
    }

    /// The counts of kept and lost pages.
    pub(super) fn pages(&self) -> &PageCount {
        &self.pages
    }

    /// The losses of the sections.
    pub(super) fn losses(&self) -> &[SectionLoss] {
        &self.losses
    }

    /// Ranges of the new payload that no checksum proves.
    pub(super) fn unproven(&self) -> &[Range<u64>] {
        &self.unproven
    }

    /// Size of the unproven ranges in the sections, in bytes.
    pub(super) fn unproven_sections(&self) -> u64 {
        self.unproven_sections
    }

    /// Offset of the page of `bit` in the old payload.
    pub(super) fn old_offset(&self, bit: u64) -> Option<u64> {
        let before = self.old.rank(bit)?;
        let rank = match self.lost_bits {
            Some((from, _)) if bit >= from => before.checked_add(self.lost_count?)?,
            _ => before,
        };
        let within = rank.checked_mul(self.layout.page_size())?;
        self.layout.data_offset().checked_add(within)
    }

    /// Returns how many of the `len` bytes at `offset` of the old payload are left, counted from the
    /// first, and the weakest proof among them.
    pub(super) fn there(&self, offset: u64, len: u64) -> (u64, Proof) {
        covered(&self.pieces, offset, len)
    }

    /// Returns how many of the `len` bytes at `offset` are lost, counted from the first.
    pub(super) fn gone(&self, offset: u64, len: u64) -> u64 {
        let next = self.pieces.partition_point(|p| p.content.end <= offset);
        let start = self.pieces.get(next).map_or(u64::MAX, |p| p.content.start);
        start.saturating_sub(offset).min(len)
    }

    fn find_unproven_sections(&mut self) {
        let (old, new) = (self.layout, self.new_layout);
        for (from, to, len) in [
            (0, 0, old.dump_avail_offset()),
            (
                old.dump_avail_offset(),
                new.dump_avail_offset(),
                old.dump_avail_len().min(new.dump_avail_len()),
            ),
            (
                old.bitmap_offset(),
                new.bitmap_offset(),
                old.bitmap_len().min(new.bitmap_len()),
            ),
            (old.pmap_offset(), new.pmap_offset(), old.pmap_len()),
        ] {
            for piece in self.pieces.iter().filter(|p| p.proof == Proof::None) {
                let start = piece.content.start.max(from);
                let end = piece.content.end.min(from + len);
                if start < end {
                    self.unproven_sections += end - start;
                    add(&mut self.unproven, to + (start - from)..to + (end - from));
                }
            }
        }
    }

    fn count_pages(&mut self, ranges: &DumpAvail) -> Result<(), Error> {
        let page = self.layout.page_size();
        let mut words = vec![0_u64; self.old.words().len()];
        let mut count = PageCount {
            promised: self.old.count(),
            unknown: self.lost_bits.map_or(0, |(from, to)| to - from),
            ..PageCount::default()
        };
        for bit in self.old.iter() {
            let offset = self.old_offset(bit);
            let (there, proof) = offset.map_or((0, Proof::None), |at| self.there(at, page));
            if there == page {
                // In bounds: `bit` is a bit of the old bitmap, which has as many words.
                words[(bit / 64) as usize] |= 1 << (bit % 64);
                if proof == Proof::None {
                    count.unproven += 1;
                    // A bitmap has at most 2^32 - 1 set bits.
                    let start = self.new_layout.data_offset() + count.kept * page;
                    add(&mut self.unproven, start..start + page);
                }
                count.kept += 1;
                continue;
            }
            count.lost += 1;
            let Some(at) = ranges.addr_of(bit) else {
                continue;
            };
            count.add_lost_range(at..at.saturating_add(page));
        }
        let bits = self.old.bits();
        self.new = Bitmap::from_words(words, bits).map_err(|e| Error::Options(e.to_string()))?;
        self.pages = count;
        Ok(())
    }

    fn count_sections(&mut self) {
        let layout = self.layout;
        for (section, start, len) in [
            (
                "message buffer",
                layout.msgbuf_offset(),
                layout.msgbuf_len(),
            ),
            ("page bitmap", layout.bitmap_offset(), layout.bitmap_len()),
            ("page tables", layout.pmap_offset(), layout.pmap_len()),
        ] {
            let lost = len - total(&self.pieces, start, len);
            if lost > 0 {
                self.losses.push(SectionLoss { section, len, lost });
            }
        }
    }
}

/// Appends a range, or extends the last one if they are adjacent.
pub(super) fn add(ranges: &mut Vec<Range<u64>>, new: Range<u64>) {
    let full = ranges.len() >= UNPROVEN_MOST;
    match ranges.last_mut() {
        // At the limit, extend the last range: it then covers proven bytes too.
        Some(last) if last.end >= new.start || full => last.end = last.end.max(new.end),
        _ => ranges.push(new),
    }
}

/// Returns how many of the `len` bytes at `offset` are covered in total.
fn total(pieces: &[Piece], offset: u64, len: u64) -> u64 {
    let end = offset.saturating_add(len);
    let first = pieces.partition_point(|p| p.content.end <= offset);
    let inside = pieces[first..].iter().take_while(|p| p.content.start < end);
    inside
        .map(|p| p.content.end.min(end) - p.content.start.max(offset))
        .sum()
}

fn lost(region: &'static str, offset: u64, len: u64) -> Error {
    Error::broken(
        region,
        offset,
        "lost bytes",
        format!("{len:#x} undamaged bytes: pages have no addresses without them"),
    )
}

/// Size of the payload by its own sections; `None` if they do not agree, or some are lost.
pub(super) fn len(stored: &Left, options: &Options) -> Result<Option<u64>, Error> {
    let known = Known {
        len: None,
        short: false,
        filled_from: None,
    };
    let stated = header(stored, options)?;
    let reading = Reading::of(stored, options, known, &stated)?;
    let agrees = reading.header == stated && reading.found.lost.is_none();
    Ok(agrees.then(|| reading.end()))
}

fn header(stored: &Left, options: &Options) -> Result<MinidumpHeader, Error> {
    let pieces = good(stored, options);
    let len = HEADER_BYTES as u64;
    if covered(&pieces, 0, len).0 < len {
        return Err(lost("minidump header", 0, len));
    }
    let mut head = [0; HEAD];
    let there = covered(&pieces, 0, HEAD as u64).0;
    // At most HEAD.
    let head = &mut head[..there as usize];
    stored.content().read_exact_at(head, 0)?;
    parse_header(head)
}

fn ranges(
    stored: &Left,
    options: &Options,
    header: &MinidumpHeader,
    layout: &Layout,
) -> Result<DumpAvail, Error> {
    if !header.has_dump_avail() {
        let bits = u64::from(header.bitmapsize) * 8;
        return Ok(DumpAvail::from_zero(bits, layout.page_size()));
    }
    let (offset, len) = (layout.dump_avail_offset(), u64::from(header.dumpavailsize));
    let pieces = good(stored, options);
    if len > DUMP_AVAIL_LIMIT || covered(&pieces, offset, len).0 < len {
        return Err(lost("dump_avail", offset, len));
    }
    let mut bytes = vec![0; len as usize];
    stored.content().read_exact_at(&mut bytes, offset)?;
    DumpAvail::parse(&bytes, header.order, layout.page_size(), offset)
}

/// The sections as located by one candidate header.
struct Reading {
    header: MinidumpHeader,
    layout: Layout,
    ranges: DumpAvail,
    found: Bits,
}

impl Reading {
    /// Returns the reading whose end matches the size of the payload. Tries the sizes in the header
    /// first, then those that follow from `dump_avail` and the page size. If neither matches,
    /// prefers the latter.
    fn of(
        stored: &Left,
        options: &Options,
        known: Known,
        stated: &MinidumpHeader,
    ) -> Result<Self, Error> {
        let there = stored.pieces().last().map(|piece| piece.content.end);
        let expected = known.len.or(there);
        let mut headers = vec![stated.clone()];
        // A page is smaller than 4 GiB.
        let page = stated.page_size() as u32;
        if stated.has_dump_avail() && stated.dumpavailsize != page {
            headers.push(MinidumpHeader {
                dumpavailsize: page,
                ..stated.clone()
            });
        }
        let (mut best, mut refused) = (None, None);
        for header in headers {
            let ranges = match ranges(stored, options, &header, &Layout::new(&header, 0)) {
                Ok(ranges) => ranges,
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            let right = header.needed_bitmap_size(&ranges);
            let sizes = [header.bitmapsize, right.unwrap_or(header.bitmapsize)];
            for (bitmapsize, last) in sizes.into_iter().zip([false, true]) {
                let header = MinidumpHeader {
                    bitmapsize,
                    ..header.clone()
                };
                match Self::under(stored, options, expected, header, ranges.clone()) {
                    Ok(reading) if expected == Some(reading.end()) => return Ok(reading),
                    Ok(reading) if last => best = best.or(Some(reading)),
                    Ok(_) => {}
                    Err(error) => {
                        refused.get_or_insert(error);
                    }
                }
            }
        }
        match (best, refused) {
            (Some(reading), _) => reading.with_tables_that_fit(stored, options, known, there),
            (None, Some(error)) => Err(error),
            (None, None) => Err(lost("minidump header", 0, HEADER_BYTES as u64)),
        }
    }

    fn under(
        stored: &Left,
        options: &Options,
        expected: Option<u64>,
        header: MinidumpHeader,
        ranges: DumpAvail,
    ) -> Result<Self, Error> {
        let mut layout = Layout::new(&header, 0);
        ranges.require_bits(header.bitmapsize, layout.bitmap_offset())?;
        let form = WordForm {
            order: header.order,
            long_size: header.long_size(),
        };
        let found = bitmap(stored, options, &layout, &ranges, form)?;
        layout = Layout::new(&header, found.bits.count());
        let padded = layout.end() + found.stray.unwrap_or(0) * layout.page_size();
        if header.unpadded_entries().is_some() && expected != Some(padded) {
            layout = layout.with_pmap_len(header.pmapsize.into());
        }
        Ok(Self {
            header,
            layout,
            ranges,
            found,
        })
    }

    /// Returns the reading with smaller page tables if those in the header exceed the payload. Their
    /// size then follows from the size of the payload. If that is not known and the file ends far
    /// before the end of the tables, it follows from the size of the file.
    fn with_tables_that_fit(
        self,
        stored: &Left,
        options: &Options,
        known: Known,
        there: Option<u64>,
    ) -> Result<Self, Error> {
        let (start, end) = (self.layout.pmap_offset(), self.layout.data_offset());
        let page = self.layout.page_size();
        let there = there.unwrap_or(0);
        let len = match known.len {
            Some(len) if end > len && !known.short => {
                let pages = self.end() - end;
                let tables = len
                    .checked_sub(pages)
                    .and_then(|len| len.checked_sub(start));
                tables.filter(|len| *len > 0 && len.is_multiple_of(page))
            }
            _ => None,
        };
        let most = end > there.saturating_add(LOST_TABLES_MOST);
        let part = || there.saturating_sub(start).next_multiple_of(page).max(page);
        let Some(len) = len.or_else(|| most.then(part)) else {
            return Ok(self);
        };
        let header = MinidumpHeader {
            // Smaller than the 32-bit size in the header.
            pmapsize: u32::try_from(len).unwrap_or(self.header.pmapsize),
            ..self.header
        };
        Self::under(stored, options, known.len, header, self.ranges)
    }

    /// End of the payload, with the pages of stray bits.
    fn end(&self) -> u64 {
        self.layout.end() + self.found.stray.unwrap_or(0) * self.layout.page_size()
    }
}

/// What is left of a bitmap.
struct Bits {
    /// The bits; lost bits are clear.
    bits: Bitmap,
    /// Range from the first to the last lost bit.
    lost: Option<(u64, u64)>,
    /// Number of bits set after the last page in the kernel's last word; `None` if the word is lost.
    stray: Option<u64>,
}

fn bitmap(
    stored: &Left,
    options: &Options,
    layout: &Layout,
    ranges: &DumpAvail,
    form: WordForm,
) -> Result<Bits, Error> {
    let bits = ranges.bits();
    let needed = bitmap_size(bits, options.open.bitmap_limit)?;
    let pieces = good(stored, options);
    let content = stored.content();
    let (mut words, mut gap) = (Vec::new(), None::<(u64, u64)>);
    let mut piece = vec![0; 1 << 16];
    let mut done = 0;
    while done < needed {
        let at = layout.bitmap_offset() + done;
        let want = (needed - done).min(piece.len() as u64);
        // Whole words.
        let there = covered(&pieces, at, want).0 / 8 * 8;
        let n = if there == 0 { 8 } else { there } as usize;
        if there == 0 {
            piece[..n].fill(0);
            let from = gap.map_or(done * 8, |(from, _)| from);
            gap = Some((from, ((done + 8) * 8).min(bits)));
        } else {
            content.read_exact_at(&mut piece[..n], at)?;
        }
        form.decode(&piece[..n], &mut words);
        done += n as u64;
    }
    if let Some((from, to)) = gap {
        // Pages between the first and the last lost word have no known offset.
        words[(from / 64) as usize..(to.div_ceil(64)) as usize].fill(0);
    }
    let lost = gap.is_some_and(|(_, to)| to + form.long_size as u64 * 8 > bits);
    let (bits, stray) = form.bitmap(words, bits, layout.bitmap_offset())?;
    Ok(Bits {
        bits,
        lost: gap,
        stray: (!lost).then_some(stray),
    })
}
