//! The intake of a payload's content, in one pass.
//!
//! The walk passes the decompressed bytes of any dump to [`Intake`] in order. The first bytes
//! identify the payload: a minidump (`mini`), or an ELF core. The headers of a core ([`Full`])
//! describe its memory ranges, and a note may state that a part of the core is a minidump. That part
//! is checked as a minidump; offsets of its findings count from the beginning of the payload.

mod mini;

use livecore_defs::{ElfMachine, foreign};

use crate::avail::Avail;
use crate::bits::Bits;
use crate::codec::Content;
use crate::facts::Facts;
use crate::finding::{Location, Sink};
use crate::full::{Full, Load};
use crate::header::{HEAD, MinidumpHeader, Refusal};
use crate::overlap::Overlaps;
use crate::report::Stop;
use crate::rules;
use crate::tables::{Lookup, Tables};
use mini::Mini;

/// A stated length of the payload, and its source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stated {
    pub(crate) by: &'static str,
    /// The length; 0 if the source states none.
    pub(crate) len: u64,
    /// Whether it may be less than header and bitmap require: a short dump can be sealed, too.
    pub(crate) may_be_short: bool,
}

/// What a [`Tap`] receives, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// A page of a section: the section's index in [`MinidumpHeader::sections`], and the page's
    /// offset in the section. Of the message buffer only the ring.
    Section(usize, u64),
    /// A page of the data section, by physical address.
    Page(u64),
}

/// A callback for pages; returns whether to continue.
pub(crate) type Tap = Box<dyn FnMut(Seen, &[u8]) -> bool + Send>;

/// Receives a payload's content and stores what later checks need.
pub(crate) struct Intake {
    memory: u64,
    /// The first bytes, until there are enough to identify the payload.
    head: Vec<u8>,
    kind: Kind,
    /// What the file is instead of a dump, if that is known.
    other: Option<String>,
    /// The minidump: the payload, or a part of an ELF core.
    mini: Mini,
}

/// The kind of a payload.
enum Kind {
    Unknown,
    Mini,
    Elf(Box<Elf>),
}

/// The state of reading an ELF core.
struct Elf {
    full: Full,
    /// Offset of the next byte.
    pos: u64,
    /// Whether a gap contains some of the headers.
    blind: bool,
    /// Range of the contained minidump.
    carried: Option<(u64, u64)>,
    /// The pages of a full dump, if there is a tap.
    pages: Option<Pages>,
    /// Ranges of a full dump that overlap, once the headers are complete.
    overlaps: Overlaps,
    /// Whether there are too many of them.
    is_tangled: bool,
}

/// Divides the memory of a full dump into pages for a tap.
struct Pages {
    tap: Tap,
    /// In order of payload offset.
    loads: Vec<Load>,
    next: usize,
    unit: u64,
    carry: Vec<u8>,
}

impl Pages {
    /// Receives the bytes at `pos`.
    fn push(&mut self, mut pos: u64, mut bytes: &[u8]) -> Result<(), Stop> {
        while let Some(load) = self.loads.get(self.next)
            && !bytes.is_empty()
        {
            let end = load.offset.saturating_add(load.filesz);
            if pos >= end {
                self.carry.clear();
                self.next += 1;
                continue;
            }
            let skip = load.offset.saturating_sub(pos);
            if skip > 0 {
                let n = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                (pos, bytes) = (pos + n as u64, &bytes[n..]);
                continue;
            }
            let at = load.paddr.wrapping_add(pos - load.offset);
            let left = (self.unit - at % self.unit).min(end - pos);
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(n);
            let whole = n as u64 == left;
            let start = at.wrapping_sub(self.carry.len() as u64);
            (pos, bytes) = (pos + n as u64, later);
            let going = if whole && self.carry.is_empty() {
                (self.tap)(Seen::Page(start), now)
            } else {
                self.carry.extend_from_slice(now);
                !whole || (self.tap)(Seen::Page(start), &self.carry)
            };
            if whole {
                self.carry.clear();
            }
            if !going {
                return Err(Stop::Failed("stopped".into()));
            }
        }
        Ok(())
    }
}

impl Elf {
    /// Evaluates the complete headers.
    fn begin(&mut self, mini: &mut Mini) {
        self.carried = self.full.carried();
        if self.carried.is_none() && self.full.is_standalone() {
            let overlaps = Overlaps::new(self.full.loads(), self.full.end().unwrap_or(0));
            self.is_tangled = overlaps.is_none();
            self.overlaps = overlaps.unwrap_or_default();
        }
        if let Some((start, end)) = self.carried {
            mini.expect_len(end - start);
            mini.expect_exactly(end - start);
            if start < self.pos {
                mini.lose();
            }
        } else if let Some(tap) = mini.untap() {
            let mut loads: Vec<Load> = self.full.loads().collect();
            loads.sort_by_key(|load| load.offset);
            self.pages = Some(Pages {
                tap,
                unit: self.full.page_size(),
                loads,
                next: 0,
                carry: Vec::new(),
            });
        }
    }

    /// Receives the next bytes.
    fn push(&mut self, mut bytes: &[u8], mini: &mut Mini, sink: &mut Sink) -> Result<(), Stop> {
        while !bytes.is_empty() {
            if self.blind {
                self.pos = self.pos.saturating_add(bytes.len() as u64);
                return Ok(());
            }
            let missing = self.full.missing();
            let end = match self.carried {
                _ if missing > 0 => self.pos.saturating_add(missing),
                Some((start, _)) if self.pos < start => start,
                Some((_, end)) if self.pos < end => end,
                _ => u64::MAX,
            };
            let n = usize::try_from(end - self.pos).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(n.min(bytes.len()));
            bytes = later;
            let pos = self.pos;
            self.pos = self.pos.saturating_add(now.len() as u64);
            if missing > 0 {
                self.full.push(now)?;
                if self.full.missing() == 0 {
                    self.begin(mini);
                }
                continue;
            }
            self.overlaps.push(pos, now);
            if let Some(pages) = &mut self.pages {
                pages.push(pos, now)?;
            }
            if let Some((start, end)) = self.carried
                && (start..end).contains(&pos)
            {
                sink.set_base(start);
                let pushed = mini.push(now, sink);
                sink.set_base(0);
                pushed?;
            }
        }
        Ok(())
    }

    /// Skips `len` bytes that could not be decoded; `None` if nothing more can be.
    fn gap(&mut self, len: Option<u64>, mini: &mut Mini, sink: &mut Sink) {
        let from = self.pos;
        self.pos = self.pos.saturating_add(len.unwrap_or(0));
        if self.full.missing() > 0 {
            self.blind |= len != Some(0);
            return;
        }
        if let Some(pages) = &mut self.pages {
            pages.carry.clear();
        }
        let Some((start, end)) = self.carried else {
            return;
        };
        match len {
            Some(_) if self.pos <= start || from >= end => {}
            Some(_) if from < start => mini.lose(),
            Some(len) => mini.gap(Some(len.min(end - from)), sink),
            None if from < end => mini.lose(),
            None => {}
        }
    }
}

impl Intake {
    /// An intake that stores at most `memory` bytes.
    pub(crate) fn new(memory: u64, walk_tables: bool) -> Self {
        Self {
            memory,
            head: Vec::new(),
            kind: Kind::Unknown,
            other: None,
            mini: Mini::new(memory, walk_tables),
        }
    }

    /// An intake that passes all pages to `tap`.
    pub(crate) fn tapped(memory: u64, tap: Tap) -> Self {
        let mut intake = Self::new(memory, true);
        intake.mini.tap(tap);
        intake
    }

    /// Drops the tap.
    pub(crate) fn untap(&mut self) {
        self.mini.untap();
        if let Kind::Elf(elf) = &mut self.kind {
            elf.pages = None;
        }
    }

    /// The payload's length, if it shows that the page tables are padded but was not known in advance
    /// ([`Content::expect_exactly`]), so that the pages were read at wrong offsets.
    pub(crate) fn padded_len(&self) -> Option<u64> {
        match self.kind {
            Kind::Mini => self.mini.padded_len(),
            Kind::Unknown | Kind::Elf(_) => None,
        }
    }

    /// Why the payload's header could not be parsed.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let refusal = self.mini.refusal().cloned();
        let Kind::Elf(elf) = &self.kind else {
            return refusal;
        };
        if let Some(port) = elf.full.unread_port() {
            let why = format!("a full dump of {port}, which has no minidumps");
            return Some(Refusal::Unsupported(why));
        }
        let unknown = elf.full.missing() == 0 && !elf.full.is_standalone();
        match (elf.carried, refusal) {
            (None, _) if unknown => Some(Refusal::Unsupported(foreign::ELF_CORE.into())),
            // The note states a minidump, so this is a broken one, not another kind of payload.
            (_, Some(Refusal::Foreign)) => Some(Refusal::Broken),
            (_, other) => other,
        }
    }

    /// The minidump header, once it was parsed.
    pub(crate) fn header(&self) -> Option<&MinidumpHeader> {
        self.mini.header()
    }

    /// Offset of the minidump in the payload.
    pub(crate) fn base(&self) -> u64 {
        match &self.kind {
            Kind::Elf(elf) => elf.carried.map_or(0, |(start, _)| start),
            _ => 0,
        }
    }

    /// `dump_avail`, once the bitmap is complete.
    pub(crate) fn avail(&self) -> Option<&Avail> {
        self.mini.avail()
    }

    /// What the payload is instead of a dump, if its first bytes show it.
    pub(crate) fn other(&self) -> Option<&str> {
        self.other.as_deref()
    }

    /// The ELF machine of a full dump, and its bytes of an address.
    pub(crate) fn port(&self) -> Option<(ElfMachine, usize)> {
        match &self.kind {
            Kind::Elf(elf) => Some(elf.full.port()),
            Kind::Unknown | Kind::Mini => None,
        }
    }

    /// The sum of the message ring's bytes, once it is complete.
    pub(crate) fn ring_sum(&self) -> Option<u32> {
        self.mini.ring_sum()
    }

    /// Takes the page tables, if they were walked.
    pub(crate) fn take_tables(&mut self) -> Option<Tables> {
        self.mini.take_tables()
    }

    /// What the entries of page tables are compared with.
    pub(crate) fn lookup(&self) -> Option<Lookup<'_>> {
        self.mini.lookup()
    }

    /// The page bitmap, once it is complete.
    pub(crate) fn bits(&self) -> Option<&Bits> {
        self.mini.bits()
    }

    /// Identifies the payload by its first bytes.
    fn begin(&mut self, sink: &mut Sink) -> Result<(), Stop> {
        let head = std::mem::take(&mut self.head);
        let Some(full) = Full::probe(&head).then(|| Full::new(&head, self.memory / 4)) else {
            self.kind = Kind::Mini;
            self.other = foreign::sentence(&head);
            return self.mini.push(&head, sink);
        };
        let mut elf = Elf {
            pos: full.seen(),
            full,
            blind: false,
            carried: None,
            pages: None,
            overlaps: Overlaps::default(),
            is_tangled: false,
        };
        if elf.full.missing() == 0 {
            elf.begin(&mut self.mini);
        }
        let rest = usize::try_from(elf.pos).unwrap_or(usize::MAX);
        let pushed = elf.push(&head[rest.min(head.len())..], &mut self.mini, sink);
        self.kind = Kind::Elf(Box::new(elf));
        pushed
    }

    /// Applies the rules about the whole payload of `len` bytes. `whole` means that all bytes were
    /// decoded.
    pub(crate) fn finish(
        &mut self,
        len: u64,
        whole: bool,
        stated: Option<Stated>,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        if matches!(self.kind, Kind::Unknown) {
            self.kind = Kind::Mini;
            let head = std::mem::take(&mut self.head);
            self.other = foreign::sentence(&head);
            self.mini.push(&head, sink)?;
        }
        let Kind::Elf(elf) = &mut self.kind else {
            self.mini.finish(len, whole, stated, sink);
            return Ok(());
        };
        // With a gap in the headers the ranges are unknown.
        let data = self.mini.header().map(MinidumpHeader::data);
        if !elf.blind || elf.full.missing() == 0 {
            elf.full.check(len, whole, data, sink);
            elf.overlaps.check(sink);
        }
        if elf.is_tangled {
            let place = Location::payload("program headers", 0);
            sink.broken(&rules::FULL_TABLE, &place, |f| {
                f.found("ranges that overlap in more bytes than the dump has, or too often")
                    .expected("ranges that do not overlap")
            });
        }
        let Some((start, end)) = elf.carried else {
            return Ok(());
        };
        sink.set_base(start);
        if matches!(self.mini.refusal(), Some(Refusal::Foreign)) {
            let place = Location::payload("minidump header", 0);
            sink.broken(&rules::MD_MAGIC, &place, |f| {
                f.found("an unknown magic")
                    .expected("a minidump, which the note states")
            });
        }
        let stated = Stated {
            by: "the note",
            len: end - start,
            may_be_short: true,
        };
        let present = len.clamp(start, end) - start;
        self.mini.finish(present, whole, Some(stated), sink);
        sink.set_base(0);
        Ok(())
    }

    /// Whether the payload of `len` bytes is shorter than its headers require. Call
    /// [`Intake::finish`] first.
    pub(crate) fn lacks(&self, len: u64) -> bool {
        match &self.kind {
            Kind::Elf(elf) => elf.full.end().is_none_or(|end| end > len),
            _ => self.mini.lacks(),
        }
    }

    /// Adds the facts about the payload.
    pub(crate) fn add_facts(&self, facts: &mut Facts) {
        if let Kind::Elf(elf) = &self.kind {
            facts.architecture = elf.full.architecture();
        }
        self.mini.add_facts(facts);
    }
}

impl Content for Intake {
    fn expect_len(&mut self, len: u64) {
        if !matches!(self.kind, Kind::Elf(_)) {
            self.mini.expect_len(len);
        }
    }

    fn expect_exactly(&mut self, len: u64) {
        if !matches!(self.kind, Kind::Elf(_)) {
            self.mini.expect_exactly(len);
        }
    }

    fn formula(&self) -> Option<u64> {
        match &self.kind {
            Kind::Elf(elf) => elf.full.end(),
            _ => self.mini.formula(),
        }
    }

    fn wants(&self) -> Option<u64> {
        match &self.kind {
            Kind::Unknown => Some(self.head.len() as u64),
            Kind::Mini => self.mini.wants(),
            Kind::Elf(elf) if elf.blind => None,
            Kind::Elf(elf) if elf.full.missing() > 0 || elf.pages.is_some() => Some(elf.pos),
            Kind::Elf(elf) => {
                let Some((start, end)) = elf.carried else {
                    return elf.overlaps.wants(elf.pos);
                };
                let at = start.checked_add(self.mini.wants()?)?;
                (at < end).then_some(at.max(elf.pos))
            }
        }
    }

    fn skip_to(&mut self, at: u64) {
        match &mut self.kind {
            Kind::Unknown => {}
            Kind::Mini => self.mini.skip_to(at),
            Kind::Elf(elf) => {
                elf.pos = elf.pos.max(at);
                if let Some(within) = elf.carried.and_then(|(start, _)| at.checked_sub(start)) {
                    self.mini.skip_to(within);
                }
            }
        }
    }

    fn stretch(&self) -> usize {
        match &self.kind {
            Kind::Unknown => HEAD - self.head.len().min(HEAD - 1),
            Kind::Mini => self.mini.stretch(),
            Kind::Elf(elf) if elf.full.missing() > 0 => {
                usize::try_from(elf.full.missing()).unwrap_or(usize::MAX)
            }
            Kind::Elf(elf) if elf.pages.is_some() || elf.carried.is_none() => 1 << 20,
            Kind::Elf(_) => self.mini.stretch(),
        }
    }

    fn has_sections(&self) -> bool {
        match &self.kind {
            Kind::Elf(elf) if elf.blind => true,
            Kind::Elf(elf) => {
                elf.full.missing() == 0 && (elf.carried.is_none() || self.mini.has_sections())
            }
            _ => self.mini.has_sections(),
        }
    }

    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Stop> {
        match &mut self.kind {
            Kind::Unknown => {
                self.head.extend_from_slice(bytes);
                match self.head.len() < HEAD {
                    true => Ok(()),
                    false => self.begin(sink),
                }
            }
            Kind::Mini => self.mini.push(bytes, sink),
            Kind::Elf(elf) => elf.push(bytes, &mut self.mini, sink),
        }
    }

    fn gap(&mut self, len: Option<u64>, sink: &mut Sink) {
        match &mut self.kind {
            // The gap is in the first bytes, so the payload cannot be identified.
            Kind::Unknown => {
                if len != Some(0) {
                    self.kind = Kind::Mini;
                    self.mini.lose();
                }
            }
            Kind::Mini => self.mini.gap(len, sink),
            Kind::Elf(elf) => elf.gap(len, &mut self.mini, sink),
        }
    }
}
