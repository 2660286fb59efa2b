//! The intake of a minidump, in one pass.
//!
//! [`Mini`] receives the bytes in order. The sections precede the data, and each gives what the next
//! needs: the header gives the offsets of the sections, `dump_avail` and bitmap the address of each
//! page, the page tables the data pages that are leaf tables. One pass is therefore enough: the
//! intake stores the bitmap and the list of leaf tables, checks each page when it arrives, and does
//! not store it.
//!
//! [`Mini::wants`] returns the next byte that is needed, so that the walk can skip others. After a
//! gap (a damaged frame) before the data nothing can be derived, and the intake ignores the rest.
//! After a gap in the data it misses only the tables in the gap.

use super::{Seen, Stated, Tap};
use crate::avail::{Avail, PARSED_MAX};
use crate::bits::Bits;
use crate::facts::Facts;
use crate::finding::{Location, Sink};
use crate::header::{HEAD, MinidumpHeader, Refusal, Section};
use crate::input::count;
use crate::msgbuf::Msgbuf;
use crate::report::Stop;
use crate::rules;
use crate::tables::{Lookup, Tables};

/// Receives a minidump and stores what later checks need.
pub(super) struct Mini {
    memory: u64,
    /// Whether page tables are walked.
    walk_tables: bool,
    /// Offset of the next byte.
    pos: u64,
    /// The beginning of an incomplete page.
    carry: Vec<u8>,
    /// Number of bytes to drop after a gap, up to the next page.
    drop: u64,
    /// Whether nothing more can be derived.
    blind: bool,
    /// Upper bound of the payload's length, if known in advance.
    len: Option<u64>,
    /// The payload's exact length, if stated in advance.
    exact: Option<u64>,
    /// Whether the payload is shorter than header and bitmap require.
    lacks: bool,
    /// The payload's length, if it shows that the page tables are padded but they were read as
    /// unpadded.
    padded: Option<u64>,
    /// Whether the length known in advance is too short for the sections.
    short: bool,
    /// Why the header could not be parsed.
    refusal: Option<Refusal>,
    header: Option<MinidumpHeader>,
    dump_avail: Vec<u8>,
    avail: Avail,
    bits: Bits,
    /// Number of pages in the file.
    pages: u64,
    avail_done: bool,
    bitmap_done: bool,
    msgbuf: Option<Msgbuf>,
    /// The sum of the ring's bytes, once it is complete.
    ring_sum: Option<u32>,
    tables: Tables,
    sections_done: bool,
    next_table: usize,
    /// Receives every page.
    tap: Option<Tap>,
    /// Rank and bit of the tap's next page.
    tapped: (u64, u64),
}

impl Mini {
    /// An intake that stores at most `memory` bytes.
    pub(super) fn new(memory: u64, walk_tables: bool) -> Self {
        Self {
            memory,
            walk_tables,
            pos: 0,
            carry: Vec::new(),
            drop: 0,
            blind: false,
            len: None,
            exact: None,
            lacks: false,
            padded: None,
            short: false,
            refusal: None,
            header: None,
            dump_avail: Vec::new(),
            avail: Avail::default(),
            bits: Bits::default(),
            pages: 0,
            avail_done: false,
            bitmap_done: false,
            msgbuf: None,
            ring_sum: None,
            tables: Tables::default(),
            sections_done: false,
            next_table: 0,
            tap: None,
            tapped: (0, 0),
        }
    }

    /// Passes all pages to `tap` from now on.
    pub(super) fn tap(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Removes the tap.
    pub(super) fn untap(&mut self) -> Option<Tap> {
        self.tap.take()
    }

    /// Sets an upper bound of the payload's length.
    pub(super) fn expect_len(&mut self, len: u64) {
        self.len = Some(len);
    }

    /// Sets the exact length of the payload, as a header or the file states it.
    pub(super) fn expect_exactly(&mut self, len: u64) {
        self.exact = Some(len);
    }

    /// The payload's length, if it shows that the page tables are padded but was not known in
    /// advance, so that the pages were read at wrong offsets.
    pub(super) fn padded_len(&self) -> Option<u64> {
        self.padded
    }

    /// Why the header could not be parsed.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// The minidump header, once it was parsed.
    pub(super) fn header(&self) -> Option<&MinidumpHeader> {
        self.header.as_ref()
    }

    /// `dump_avail`, once the bitmap is complete.
    pub(super) fn avail(&self) -> Option<&Avail> {
        self.bitmap_done.then_some(&self.avail)
    }

    /// The sum of the message ring's bytes, once it is complete.
    pub(super) fn ring_sum(&self) -> Option<u32> {
        self.ring_sum
    }

    /// The page bitmap, once it is complete.
    pub(super) fn bits(&self) -> Option<&Bits> {
        self.bitmap_done.then_some(&self.bits)
    }

    /// Whether everything that `--quick` checks was received, or nothing more will be.
    pub(super) fn has_sections(&self) -> bool {
        self.bitmap_done || self.blind
    }

    /// The length computed from header and bitmap.
    pub(super) fn formula(&self) -> Option<u64> {
        let header = self.header.as_ref().filter(|_| self.bitmap_done)?;
        header
            .data()
            .checked_add(self.pages.checked_mul(header.page)?)
    }

    /// Offset of the next byte that is needed; `None` if no more are.
    pub(super) fn wants(&self) -> Option<u64> {
        if self.blind {
            return None;
        }
        let Some(header) = &self.header else {
            return Some(self.pos);
        };
        if !self.sections_done {
            if self.bitmap_done && !self.walk_tables {
                return None;
            }
            return Some(self.pos);
        }
        if self.tap.is_some() {
            return Some(self.pos);
        }
        let table = self.tables.wanted.get(self.next_table)?;
        let at = header
            .data()
            .checked_add(table.rank.checked_mul(header.page)?)?;
        Some(at.max(self.pos))
    }

    /// Continues at `at`, the result of [`Mini::wants`].
    pub(super) fn skip_to(&mut self, at: u64) {
        if at > self.pos {
            self.carry.clear();
            self.pos = at;
        }
    }

    /// Number of consecutive bytes needed at [`Mini::wants`].
    pub(super) fn stretch(&self) -> usize {
        let Some(header) = &self.header else {
            return HEAD;
        };
        let page = header.page as usize;
        if self.sections_done {
            return if self.tap.is_some() { 64 * page } else { page };
        }
        let left = header.data().saturating_sub(self.pos);
        usize::try_from(left).unwrap_or(usize::MAX).max(1)
    }

    /// Receives the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8], sink: &mut Sink) -> Result<(), Stop> {
        while !bytes.is_empty() {
            if self.blind {
                self.pos = self.pos.saturating_add(bytes.len() as u64);
                return Ok(());
            }
            let skipped = self.to_skip();
            if skipped > 0 && self.carry.is_empty() {
                let n = bytes
                    .len()
                    .min(usize::try_from(skipped).unwrap_or(usize::MAX));
                self.pos = self.pos.saturating_add(n as u64);
                self.drop = self.drop.saturating_sub(n as u64);
                bytes = &bytes[n..];
                continue;
            }
            let unit = match &self.header {
                Some(header) => self.unit(header),
                None => HEAD,
            };
            let missing = unit - self.carry.len().min(unit);
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            bytes = later;
            self.pos = self.pos.saturating_add(now.len() as u64);
            if self.header.is_none() {
                self.carry.extend_from_slice(now);
                if self.carry.len() >= HEAD {
                    self.begin(sink);
                }
            } else if self.carry.is_empty() && now.len() == unit {
                self.page(now, sink)?;
            } else {
                self.carry.extend_from_slice(now);
                if self.carry.len() == unit {
                    let page = std::mem::take(&mut self.carry);
                    self.page(&page, sink)?;
                    self.carry = page;
                    self.carry.clear();
                }
            }
        }
        Ok(())
    }

    /// Size of the next page to collect: less than a page at the end of unpadded page tables.
    fn unit(&self, header: &MinidumpHeader) -> usize {
        let start = self.pos - self.carry.len() as u64;
        let left = header.data().checked_sub(start).filter(|left| *left > 0);
        // A page is 16 KiB at most.
        left.map_or(header.page, |left| left.min(header.page)) as usize
    }

    /// Number of bytes that are not needed, from the current position.
    fn to_skip(&self) -> u64 {
        if self.drop > 0 {
            return self.drop;
        }
        if !self.sections_done {
            return 0;
        }
        match self.wants() {
            Some(at) => at - self.pos,
            None => u64::MAX,
        }
    }

    /// Skips `len` bytes that could not be decoded; `None` if nothing more can be.
    pub(super) fn gap(&mut self, len: Option<u64>, sink: &mut Sink) {
        let (page, data) = self.header.as_ref().map_or((0, 0), |h| (h.page, h.data()));
        let Some(len) = len.filter(|_| self.sections_done && page > 0) else {
            if len != Some(0) {
                self.blind = true;
            }
            return;
        };
        // The sections are complete, so the position is in the data.
        let Some(pos) = self.pos.checked_add(len).filter(|pos| *pos >= data) else {
            self.blind = true;
            return;
        };
        self.carry.clear();
        self.pos = pos;
        self.drop = (page - (pos - data) % page) % page;
        let first = (pos - data).div_ceil(page);
        while let Some(table) = self.tables.wanted.get(self.next_table)
            && table.rank < first
        {
            self.next_table += 1;
        }
        let _ = sink;
    }

    /// Records a loss after which nothing more can be derived.
    pub(super) fn lose(&mut self) {
        self.blind = true;
    }

    /// Parses the header from the first bytes.
    fn begin(&mut self, sink: &mut Sink) {
        match MinidumpHeader::parse(&self.carry, sink) {
            Ok(header) => {
                let (size, wide) = (header.msgbufsize, header.is_wide());
                self.msgbuf = Some(Msgbuf::new(size, wide, header.big));
                // A payload too short for its sections need not allocate memory for them.
                let lens = self.len.into_iter().chain(self.exact);
                self.short = lens.min().is_some_and(|len| len < header.data());
                self.header = Some(header);
            }
            Err(refusal) => {
                self.refusal = Some(refusal);
                self.blind = true;
            }
        }
    }

    /// Receives one page, which ends at `pos`.
    fn page(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Stop> {
        let Some(header) = self.header.clone() else {
            return Ok(());
        };
        let at = self.pos - bytes.len() as u64;
        let sections = header.sections();
        let section = sections.iter().position(|s| (s.start..s.end).contains(&at));
        match section {
            Some(0) => header.check(bytes, sink),
            Some(1) => {
                if let Some(msgbuf) = &mut self.msgbuf {
                    msgbuf.feed(bytes);
                }
            }
            Some(2) => {
                let left = PARSED_MAX.saturating_sub(self.dump_avail.len());
                self.dump_avail
                    .extend_from_slice(&bytes[..bytes.len().min(left)]);
            }
            Some(3) => self.bitmap_page(bytes, &header, sink)?,
            Some(4) if self.walk_tables => {
                let lookup = Lookup {
                    header: &header,
                    avail: &self.avail,
                    bits: &self.bits,
                };
                self.tables
                    .section_page(bytes, at, self.memory, &lookup, sink)?;
            }
            Some(_) => {}
            None => {
                self.data_page(bytes, at, &header);
                self.tap_page(bytes, at, &header)?;
            }
        }
        if let Some(i) = section {
            let within = at - sections[i].start;
            let ring = header.msgbufsize.saturating_sub(within);
            let len = match i {
                1 => bytes.len().min(usize::try_from(ring).unwrap_or(usize::MAX)),
                _ => bytes.len(),
            };
            self.show(Seen::Section(i, within), &bytes[..len])?;
        }
        if self.pos >= sections[1].end
            && let Some(msgbuf) = self.msgbuf.take()
        {
            msgbuf.check(sections[1].start, sink);
            self.ring_sum = Some(msgbuf.sum());
        }
        if !self.avail_done && self.pos >= sections[2].end {
            self.end_avail(&header, &sections, sink);
        }
        if !self.bitmap_done && self.pos >= sections[3].end {
            self.end_bitmap(&header, &sections, sink);
        }
        if !self.sections_done && self.pos >= header.data() {
            self.sections_done = true;
            self.tables.sort();
        }
        Ok(())
    }

    fn bitmap_page(
        &mut self,
        bytes: &[u8],
        header: &MinidumpHeader,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        let bits = header.bitmapsize.saturating_mul(8);
        // The walk of the page tables marks bits in a second bitmap.
        if Bits::memory(bits).saturating_add(bits / 8) > self.memory / 2 {
            if self.short || sink.broke(&rules::BM_SIZE) {
                self.blind = true;
                return Ok(());
            }
            return Err(Stop::Failed(format!(
                "a page bitmap of {} bytes needs more memory than the limit of {} bytes; raise --memory",
                header.bitmapsize, self.memory
            )));
        }
        for word in bytes.chunks_exact(8) {
            self.bits.push(word_of(word, header));
        }
        Ok(())
    }

    /// Parses the complete `dump_avail`.
    fn end_avail(&mut self, header: &MinidumpHeader, sections: &[Section; 5], sink: &mut Sink) {
        self.avail_done = true;
        let page = header.page;
        if !header.has_avail() {
            self.avail = Avail::from_zero(header.bitmapsize.saturating_mul(8), page);
            return;
        }
        let start = sections[2].start;
        self.avail = Avail::parse(&self.dump_avail, header.big, page, start, sink);
        if let Some((start, end)) = self.avail.span() {
            header.check_dmap_phys(start, end, sink);
        }
        let pages = self.avail.bits();
        let size = (header.whole_words(pages) / 8)
            .div_ceil(page)
            .saturating_mul(page);
        let field = Location::payload("minidump header", header.fields.bitmapsize.offset as u64);
        sink.check(&rules::BM_SIZE, header.bitmapsize == size, &field, |f| {
            f.found(format!("bitmapsize {:#x}", header.bitmapsize))
                .expected(format!("{size:#x} for the {pages} pages of dump_avail"))
        });
    }

    /// Checks the complete bitmap.
    fn end_bitmap(&mut self, header: &MinidumpHeader, sections: &[Section; 5], sink: &mut Sink) {
        let place = Location::payload("page bitmap", sections[3].start);
        self.pages = self.bits.below(u64::MAX);
        if header.has_avail() {
            let pages = self.avail.bits();
            let beyond = self.bits.next(pages);
            let at = sections[3].start + beyond.unwrap_or(0) / 8;
            let place = Location::payload("page bitmap", at);
            sink.check(&rules::BM_BEYOND, beyond.is_none(), &place, |f| {
                f.found(format!(
                    "{} set bits at or above bit {pages}, the first is {}",
                    self.pages - self.bits.below(pages),
                    beyond.unwrap_or(0)
                ))
                .expected(format!("none, since dump_avail has {pages} pages"))
            });
            let all = self.pages;
            self.pages = self.bits.below(header.whole_words(pages));
            let stray = self.pages.min(all) - self.bits.below(pages);
            sink.check(&rules::BM_BEYOND_PAGES, stray == 0, &place, |f| {
                f.found(format!("{stray} pages for bits at or above bit {pages}"))
                    .expected("only pages of dump_avail")
            });
        }
        if header.slack() > 0 {
            let padded = self.pages.saturating_mul(header.page);
            let padded = header.data().saturating_add(padded);
            // The kernel does not pad; another program may.
            let unpadded = self.exact != Some(padded);
            if let Some(header) = &mut self.header {
                header.unpadded = unpadded;
            }
        }
        sink.check(&rules::BM_EMPTY, self.pages > 0, &place, |f| {
            f.found("no set bit").expected("at least one page")
        });
        self.bitmap_done = true;
    }

    fn data_page(&mut self, bytes: &[u8], at: u64, header: &MinidumpHeader) {
        let rank = (at - header.data()) / header.page;
        while let Some(&table) = self.tables.wanted.get(self.next_table)
            && table.rank <= rank
        {
            if table.rank == rank {
                let lookup = Lookup {
                    header,
                    avail: &self.avail,
                    bits: &self.bits,
                };
                self.tables.table_page(table, bytes, at, &lookup);
            }
            self.next_table += 1;
        }
    }

    /// Passes the page at payload offset `at` to the tap. After a gap, skips the bits of the lost
    /// pages.
    fn tap_page(&mut self, bytes: &[u8], at: u64, header: &MinidumpHeader) -> Result<(), Stop> {
        if self.tap.is_none() {
            return Ok(());
        }
        let rank = (at - header.data()) / header.page;
        let (mut next, mut from) = self.tapped;
        let mut bit = None;
        while next <= rank {
            bit = self.bits.next(from);
            let Some(bit) = bit else { break };
            next += 1;
            from = bit + 1;
        }
        self.tapped = (next, from);
        // Bits after the last page have no address.
        let Some(pa) = bit.and_then(|bit| self.avail.address(bit)) else {
            return Ok(());
        };
        self.show(Seen::Page(pa), bytes)
    }

    /// Passes `bytes` to the tap, if there is one.
    fn show(&mut self, what: Seen, bytes: &[u8]) -> Result<(), Stop> {
        match self.tap.as_mut().is_none_or(|tap| tap(what, bytes)) {
            true => Ok(()),
            false => Err(Stop::Failed("stopped".into())),
        }
    }

    /// Applies the rules about the whole payload of `len` bytes. `whole` means that all bytes were
    /// decoded.
    pub(super) fn finish(
        &mut self,
        len: u64,
        whole: bool,
        stated: Option<Stated>,
        sink: &mut Sink,
    ) {
        let Some(header) = &self.header else {
            if !self.blind && whole {
                let place = Location::payload("minidump header", len);
                sink.broken(&rules::MD_SECTIONS, &place, |f| {
                    f.found(format!("the payload ends at {len:#x}"))
                        .expected("a header page")
                });
            }
            return;
        };
        if !whole {
            return;
        }
        let cut = header.sections().into_iter().find(|s| s.end > len);
        let region = cut.map_or("page tables", |s| s.name);
        sink.check(
            &rules::MD_SECTIONS,
            cut.is_none(),
            &Location::payload(region, len),
            |f| {
                let end = cut.map_or(0, |s| s.end);
                f.found(format!("the payload ends at {len:#x}"))
                    .expected(format!("the end of the {region} at {end:#x}"))
            },
        );
        self.lacks = cut.is_some();
        let Some(formula) = self.formula().filter(|_| cut.is_none()) else {
            return;
        };
        if header.unpadded && header.slack() > 0 && len == formula.saturating_add(header.slack()) {
            self.padded = Some(len);
        }
        let place = Location::payload("page data", len.min(formula));
        let (less, more) = match header.unpadded {
            true => (0, header.slack()),
            false => (header.slack(), 0),
        };
        sink.check(
            &rules::MD_LONG,
            len <= formula.saturating_add(more),
            &place,
            |f| {
                f.found(format!("a payload of {len:#x} bytes"))
                    .expected(format!(
                        "{formula:#x} for sections and {} pages",
                        self.pages
                    ))
            },
        );
        let least = formula.saturating_sub(less);
        let missing = least.saturating_sub(len).div_ceil(header.page);
        self.lacks = missing > 0;
        let contradicts = |s: &Stated| !s.may_be_short && s.len != 0 && s.len < least;
        let promised = stated.filter(|s| s.len > len || contradicts(s));
        sink.check(
            &rules::MD_SHORT,
            promised.is_none() || missing == 0,
            &place,
            |f| {
                let by = promised.map_or("", |s| s.by);
                let stated = promised.map_or(0, |s| s.len);
                f.found(format!(
                    "a payload of {len:#x} bytes, without {} at the end",
                    count(missing, "page")
                ))
                .expected(format!("{formula:#x}; {by} states {stated:#x}"))
            },
        );
        if promised.is_none() {
            sink.check(&rules::MD_SHORT_TAIL, missing == 0, &place, |f| {
                f.found(format!(
                    "a payload of {len:#x} bytes, without {missing} of {} pages at the end",
                    self.pages
                ))
                .expected(format!("{formula:#x} bytes"))
            });
        }
    }

    /// Takes the page tables, if they were walked.
    pub(super) fn take_tables(&mut self) -> Option<Tables> {
        let walked = self.walk_tables && self.sections_done && self.header.is_some();
        walked.then(|| std::mem::take(&mut self.tables))
    }

    /// What the entries of page tables are compared with.
    pub(super) fn lookup(&self) -> Option<Lookup<'_>> {
        let header = self.header.as_ref().filter(|_| self.sections_done)?;
        Some(Lookup {
            header,
            avail: &self.avail,
            bits: &self.bits,
        })
    }

    /// Whether the payload is shorter than header and bitmap require.
    pub(super) fn lacks(&self) -> bool {
        self.lacks
    }

    /// Adds the facts about the minidump.
    pub(super) fn add_facts(&self, facts: &mut Facts) {
        let Some(header) = &self.header else { return };
        facts.architecture = Some(header.architecture());
        facts.version = Some(header.version);
        // A bit after the last page of dump_avail represents no page.
        let pages = self.bits.below(self.avail.bits());
        facts.pages = self.bitmap_done.then_some(pages);
    }
}

/// 64 bits of the bitmap, with the lowest bit number as the lowest bit.
fn word_of(bytes: &[u8], header: &MinidumpHeader) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    match (header.big, header.word_bits()) {
        (false, _) => u64::from_le_bytes(word),
        (true, 64) => u64::from_be_bytes(word),
        (true, _) => u64::from_be_bytes(word).rotate_left(32),
    }
}
