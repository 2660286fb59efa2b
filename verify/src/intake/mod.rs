//! The content of a payload, seen once, from its beginning to its end.
//!
//! Whatever a dump is stored as, its decompressed bytes come by here in order. The first of them
//! say what it is: a minidump (`mini`), or an ELF core, whose headers ([`Full`]) say where memory
//! lies in it, and whose notes may say that a part of it is a minidump. That part is seen as any
//! minidump is; offsets of findings in it count from the payload's beginning.

mod mini;

use crate::avail::Avail;
use crate::bits::Bits;
use crate::codec::Content;
use crate::facts::Facts;
use crate::finding::{Location, Sink};
use crate::full::{Full, Load};
use crate::header::{HEAD, MinidumpHeader, Refusal};
use crate::report::Stop;
use crate::rules;
use mini::Mini;

/// What states a payload's length, and the length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stated {
    pub(crate) by: &'static str,
    /// The length; 0 if none is stated.
    pub(crate) len: u64,
    /// Whether it may be less than the bitmap promises: a seal is put around a short dump, too.
    pub(crate) may_be_short: bool,
}

/// What a tap sees, in the order in which it comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// A page of the section with this number in [`MinidumpHeader::sections`], and its offset in there. Of
    /// the message buffer the ring alone.
    Section(usize, u64),
    /// The page of the data section that has this physical address.
    Page(u64),
}

/// Takes what comes by; says whether to go on.
pub(crate) type Tap = Box<dyn FnMut(Seen, &[u8]) -> bool + Send>;

/// Sees a payload's content and keeps what later checks need.
pub(crate) struct Intake {
    memory: u64,
    /// The first bytes, until there are enough of them to say what they are.
    head: Vec<u8>,
    kind: Kind,
    /// The minidump: the payload, or the part of an ELF core that is one.
    mini: Mini,
}

/// What a payload is.
enum Kind {
    Unknown,
    Mini,
    Elf(Box<Elf>),
}

/// An ELF core, on its way.
struct Elf {
    full: Full,
    /// Where the next byte is.
    pos: u64,
    /// Whether its headers were lost in a gap.
    blind: bool,
    /// From where to where it is a minidump.
    carried: Option<(u64, u64)>,
    /// Its pages, if somebody wants to see them and they are no minidump's.
    pages: Option<Pages>,
}

/// The memory of a full dump, cut into pages.
struct Pages {
    tap: Tap,
    /// By offset in the payload.
    loads: Vec<Load>,
    next: usize,
    unit: u64,
    carry: Vec<u8>,
}

impl Pages {
    /// Sees the byte at `pos` and those behind it.
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
            // The byte at `pos` is this far into the range, whose last address is one.
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
    /// The headers are there: what they say of the rest.
    fn begin(&mut self, mini: &mut Mini) {
        self.carried = self.full.carried();
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

    /// Sees the next bytes.
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

    /// `len` bytes that could not be had; all that follow if it is not known how many.
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
    /// An intake that may keep `memory` bytes.
    pub(crate) fn new(memory: u64, walk_tables: bool) -> Self {
        Self {
            memory,
            head: Vec::new(),
            kind: Kind::Unknown,
            mini: Mini::new(memory, walk_tables),
        }
    }

    /// An intake whose pages, all of them, `tap` sees.
    pub(crate) fn tapped(memory: u64, tap: Tap) -> Self {
        let mut intake = Self::new(memory, true);
        intake.mini.tap(tap);
        intake
    }

    /// Lets the tap go.
    pub(crate) fn untap(&mut self) {
        self.mini.untap();
        if let Kind::Elf(elf) = &mut self.kind {
            elf.pages = None;
        }
    }

    /// The payload's length, if that says that its page tables are padded and came too late: who
    /// knows it from the beginning ([`Content::expect_exactly`]) sees other pages.
    pub(crate) fn padded_len(&self) -> Option<u64> {
        match self.kind {
            Kind::Mini => self.mini.padded_len(),
            Kind::Unknown | Kind::Elf(_) => None,
        }
    }

    /// Why the payload's first bytes are no header.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let refusal = self.mini.refusal().cloned();
        let Kind::Elf(elf) = &self.kind else {
            return refusal;
        };
        let unknown = elf.full.missing() == 0 && !elf.full.is_standalone();
        match (elf.carried, refusal) {
            (None, _) if unknown => {
                let why = "an ELF core that carries no minidump";
                Some(Refusal::Unsupported(why.into()))
            }
            // What is no minidump contradicts the note, and is no other kind of payload.
            (_, Some(Refusal::Foreign)) => Some(Refusal::Broken),
            (_, other) => other,
        }
    }

    /// The minidump header, once it was seen and understood.
    pub(crate) fn header(&self) -> Option<&MinidumpHeader> {
        self.mini.header()
    }

    /// Where the minidump begins in the payload.
    pub(crate) fn base(&self) -> u64 {
        match &self.kind {
            Kind::Elf(elf) => elf.carried.map_or(0, |(start, _)| start),
            _ => 0,
        }
    }

    /// `dump_avail`, once bitmap and ranges are known.
    pub(crate) fn avail(&self) -> Option<&Avail> {
        self.mini.avail()
    }

    /// The sum of the message ring's bytes, once they were seen.
    pub(crate) fn ring_sum(&self) -> Option<u32> {
        self.mini.ring_sum()
    }

    /// The page bitmap, once it was seen to its end.
    pub(crate) fn bits(&self) -> Option<&Bits> {
        self.mini.bits()
    }

    /// The first bytes say what it is.
    fn begin(&mut self, sink: &mut Sink) -> Result<(), Stop> {
        let head = std::mem::take(&mut self.head);
        let Some(full) = Full::probe(&head).then(|| Full::new(&head, self.memory / 4)) else {
            self.kind = Kind::Mini;
            return self.mini.push(&head, sink);
        };
        let mut elf = Elf {
            pos: full.seen(),
            full,
            blind: false,
            carried: None,
            pages: None,
        };
        if elf.full.missing() == 0 {
            elf.begin(&mut self.mini);
        }
        let rest = usize::try_from(elf.pos).unwrap_or(usize::MAX);
        let pushed = elf.push(&head[rest.min(head.len())..], &mut self.mini, sink);
        self.kind = Kind::Elf(Box::new(elf));
        pushed
    }

    /// Applies the rules about the whole payload of `len` bytes, all of which came by if it is
    /// `whole`.
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
            self.mini.push(&head, sink)?;
        }
        let Kind::Elf(elf) = &mut self.kind else {
            self.mini.finish(len, whole, stated, sink);
            return Ok(());
        };
        // Behind a gap in front of the memory nothing can be derived.
        let data = self.mini.header().map(MinidumpHeader::data);
        if !elf.blind || elf.full.missing() == 0 {
            elf.full.check(len, whole, data, sink);
        }
        let Some((start, end)) = elf.carried else {
            return Ok(());
        };
        sink.set_base(start);
        if matches!(self.mini.refusal(), Some(Refusal::Foreign)) {
            let place = Location::payload("minidump header", 0);
            sink.broken(&rules::MD_MAGIC, &place, |f| {
                f.found("something else")
                    .expected("the minidump that the note promises")
            });
        }
        let stated = Stated {
            by: "the note",
            len: end - start,
            may_be_short: true,
        };
        let there = len.clamp(start, end) - start;
        self.mini.finish(there, whole, Some(stated), sink);
        sink.set_base(0);
        Ok(())
    }

    /// Whether less came by than the headers promise; known once [`Intake::finish`] was called for
    /// a payload of `len` bytes.
    pub(crate) fn lacks(&self, len: u64) -> bool {
        match &self.kind {
            Kind::Elf(elf) => elf.full.end().is_none_or(|end| end > len),
            _ => self.mini.lacks(),
        }
    }

    /// Adds what was learned to the facts.
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
                let (start, end) = elf.carried?;
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
            Kind::Elf(elf) if elf.pages.is_some() => 1 << 20,
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
            // Of less than a header nothing can be said.
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
