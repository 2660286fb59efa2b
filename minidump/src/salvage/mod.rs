//! A damaged or truncated dump made into the best sound one that can be had.
//!
//! Three questions, one file each: where payload and header lie in what is left of the container
//! (`locate`), which pages that leaves (`survey`), and what the new payload is (`payload`). Of full
//! dumps `full` answers the last two. What carries a minidump is salvaged as that, which knows more.
//!
//! A page that was lost becomes a *hole*: its bit in the bitmap is cleared and the pages behind it
//! move up. It never becomes a page of zeros. The sections in front of the pages are a different
//! matter:
//!
//! | lost                              | what becomes of it                                         |
//! |-----------------------------------|------------------------------------------------------------|
//! | minidump header, `dump_avail`     | nothing can be had: no page has an address                 |
//! | a part of the bitmap              | pages before that part keep their place; those behind it, if the payload's length is known |
//! | message buffer, a part            | zeros, which its readers skip; the report says how many    |
//! | page tables, a part               | entries of zero, which map nothing; the report says so     |
//! | ELF header, program headers       | of a full dump nothing can be had                          |
//! | kerneldumpheader                  | the other one's of a device, the seal's, the info file's, or one from the payload |
//!
//! What is uncompressed and has no seal has no checksums: all that is there is kept, and nothing
//! says whether it is right. The report tells such pages from those that a checksum proves.

mod full;
mod left;
mod locate;
mod payload;
mod survey;

use std::io::Write;
use std::sync::Arc;

use livecore_compress::salvage::{Damage, Salvage as Stored};
use livecore_compress::{Codec, Progress, ReadAt};

use crate::convert::{Target, Written, finish_record};
use crate::info::Info;
use crate::{Error, KernelDumpHeader, OpenOptions, PhysAddr, SealRecord};
use livecore_defs::seal::{
    FLAG_HEADER_FROM_INFO, FLAG_HEADER_FROM_PAYLOAD, FLAG_SALVAGED, FLAG_SHORT, FLAG_ZERO_TAIL,
    RECORD_SALVAGED, RECORD_SOURCE_LENGTH,
};

use left::Left;
use locate::Located;
use payload::Patched;
use survey::Survey;

/// Where the kerneldumpheader of a salvaged dump is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFrom {
    /// The last header of the file.
    Trailing,
    /// The first header of a dump device, whose last one is lost or broken.
    Leading,
    /// The seal.
    Seal,
    /// The info file beside the dump.
    Info,
    /// Made from the payload: without names and time.
    Payload,
}

impl HeaderFrom {
    /// `trailing`, `leading`, `seal`, `info` or `payload`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trailing => "trailing",
            Self::Leading => "leading",
            Self::Seal => "seal",
            Self::Info => "info",
            Self::Payload => "payload",
        }
    }
}

/// Bytes of a section that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionLoss {
    /// The section.
    pub section: &'static str,
    /// Its length.
    pub len: u64,
    /// How many bytes of it are lost.
    pub lost: u64,
}

/// What became of a dump's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageCount {
    /// Pages that the bitmap promised, as far as it could be read.
    pub promised: u64,
    /// Pages that are in the salvaged dump.
    pub kept: u64,
    /// Of those, pages that no checksum proves.
    pub unproven: u64,
    /// Pages that are lost: holes now.
    pub lost: u64,
    /// The first lost pages, as ranges of physical addresses.
    pub ranges: Vec<(PhysAddr, PhysAddr)>,
    /// Pages of `dump_avail` of which the bitmap no longer says whether they were in the dump.
    pub unknown: u64,
}

/// What was found and what was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What is made of it: `minidump` or `full`.
    pub kind: &'static str,
    /// What the container seems to have been: `saved`, `raw`, `sealed` or `device`.
    pub container: &'static str,
    /// The codec.
    pub codec: Codec,
    /// Where the header is from.
    pub header: HeaderFrom,
    /// The payload's pages.
    pub pages: PageCount,
    /// Sections of which something is lost.
    pub sections: Vec<SectionLoss>,
    /// What is wrong with the stored bytes; offsets are in the payload as stored.
    pub damage: Vec<Damage>,
    /// Where the payload as stored begins in the file.
    pub start: u64,
    /// Content bytes that are good but whose place is not known.
    pub unplaced: u64,
}

impl Report {
    /// Whether nothing was lost and nothing is in doubt.
    pub fn is_whole(&self) -> bool {
        self.pages.lost == 0
            && self.pages.unknown == 0
            && self.sections.is_empty()
            && self.unplaced == 0
            && self.damage.is_empty()
    }

    /// Whether something of the dump's content is lost.
    pub fn has_losses(&self) -> bool {
        self.pages.lost > 0 || self.pages.unknown > 0 || !self.sections.is_empty()
    }
}

/// How a dump is salvaged.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How its stream is read, and how large its bitmap may be.
    pub open: OpenOptions,
    /// Whether only pages are kept that a checksum proves.
    pub proven: bool,
    /// The info file beside the dump.
    pub info: Option<Info>,
}

/// A dump that has been looked through, ready to be written anew.
pub struct Salvage {
    payload: Arc<dyn ReadAt>,
    page_size: u64,
    record: SealRecord,
    report: Report,
}

impl Salvage {
    /// Looks through `source` for what is left of a dump. Decodes everything once.
    ///
    /// [`Error::NotADump`] and [`Error::Unsupported`] as with any dump; [`Error::Broken`] if what
    /// is lost is what all else hangs on.
    pub fn examine(
        source: Arc<dyn ReadAt>,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let located = locate::locate(&source)?;
        let window = located.window(&source);
        let stored = Stored::recover(window, &options.open.stream, progress)?;
        let seal = stored
            .attachment()
            .and_then(|bytes| SealRecord::parse(bytes).ok());
        let known = Known {
            len: trusted_len(&located, seal.as_ref(), &stored),
            short: seal.as_ref().is_some_and(|s| s.flags & FLAG_SHORT != 0),
            filled_from: seal.as_ref().and_then(filled_from),
        };
        let mut left = Left::new(stored);
        let found = if full::is_core(&left)? {
            full::examine(&mut left, options, known)?
        } else {
            Found::mini(&mut left, options, known)?
        };
        let stored = left.stored;
        let (header, from) = header_of(&located, seal.as_ref(), options, found.header);
        let mut record = seal.unwrap_or_default();
        record.header = header;
        // What was missing is a hole now, and so is what was made up.
        record.flags &= !FLAG_SHORT;
        if known.filled_from.is_some() {
            record.flags &= !FLAG_ZERO_TAIL;
            record
                .records
                .retain(|(kind, _)| *kind != RECORD_SOURCE_LENGTH);
        }
        match from {
            HeaderFrom::Info => record.flags |= FLAG_HEADER_FROM_INFO,
            HeaderFrom::Payload => record.flags |= FLAG_HEADER_FROM_PAYLOAD,
            HeaderFrom::Trailing | HeaderFrom::Leading | HeaderFrom::Seal => {}
        }
        let report = Report {
            kind: found.kind,
            container: match stored.is_sealed() {
                true => "sealed",
                false => located.container(),
            },
            codec: stored.codec(),
            header: from,
            pages: found.pages,
            sections: found.sections,
            damage: stored.damage().to_vec(),
            start: located.start(),
            unplaced: stored.unplaced(),
        };
        if report.has_losses() {
            record.flags |= FLAG_SALVAGED;
            record.set_record(RECORD_SALVAGED, lost_record(&report));
        }
        Ok(Self {
            page_size: found.page_size,
            payload: found.payload,
            record,
            report,
        })
    }

    /// What was found and what was lost.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The new payload's length.
    pub fn payload_len(&self) -> Result<u64, Error> {
        Ok(self.payload.size()?)
    }

    /// Writes the dump as `target` says.
    pub fn write(
        &self,
        target: &Target,
        out: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<Written, Error> {
        finish_record(
            &*self.payload,
            || self.record.clone(),
            self.page_size,
            target,
            out,
            progress,
        )
    }
}

/// Ranges of lost pages that are kept for the report.
const RANGES: usize = 1024;

/// What can be made of what is left.
struct Found {
    kind: &'static str,
    page_size: u64,
    /// The new payload.
    payload: Arc<dyn ReadAt>,
    pages: PageCount,
    sections: Vec<SectionLoss>,
    /// A header made of the payload.
    header: KernelDumpHeader,
}

impl Found {
    fn mini(left: &mut Left, options: &Options, known: Known) -> Result<Self, Error> {
        let survey = Survey::new(left, options, known)?;
        Ok(Self {
            kind: "minidump",
            page_size: survey.header().page_size(),
            pages: survey.pages().clone(),
            sections: survey.losses().to_vec(),
            header: KernelDumpHeader::from_payload(survey.header()),
            payload: Arc::new(Patched::new(survey, left.content())),
        })
    }
}

/// What is known of a payload before its sections are read.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its length.
    len: Option<u64>,
    /// Whether it has less than its bitmap promises.
    short: bool,
    /// Where zeros begin that were made up when it was sealed.
    filled_from: Option<u64>,
}

/// Where made-up zeros begin, if a seal says that there are some, and where.
fn filled_from(seal: &SealRecord) -> Option<u64> {
    let record = seal.record(RECORD_SOURCE_LENGTH)?;
    let from = crate::ByteOrder::Little.uint(record)?;
    (seal.flags & FLAG_ZERO_TAIL != 0).then_some(from)
}

/// The record's content: pages kept, pages lost, bytes of sections lost.
fn lost_record(report: &Report) -> Vec<u8> {
    let pages = &report.pages;
    let sections: u64 = report.sections.iter().map(|s| s.lost).sum();
    let lost = pages.lost.saturating_add(pages.unknown);
    [pages.kept, lost, sections]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect()
}

/// The payload's length as a header states it whose own check holds: it tells where pages behind a
/// gap belong.
fn trusted_len(located: &Located, seal: Option<&SealRecord>, stored: &Stored) -> Option<u64> {
    if let Some(len) = stored.stated_len() {
        return Some(len);
    }
    if let Some(seal) = seal {
        return Some(seal.header.dumpextent).filter(|len| *len > 0);
    }
    // The extent of a compressed dump may be all that a device had.
    let (header, _) = located.header.as_ref()?;
    let raw = header.parity_ok && located.container() == "raw";
    raw.then_some(header.dumpextent)
}

fn header_of(
    located: &Located,
    seal: Option<&SealRecord>,
    options: &Options,
    made: KernelDumpHeader,
) -> (KernelDumpHeader, HeaderFrom) {
    if let Some(seal) = seal {
        let from = match seal.flags {
            flags if flags & FLAG_HEADER_FROM_INFO != 0 => HeaderFrom::Info,
            flags if flags & FLAG_HEADER_FROM_PAYLOAD != 0 => HeaderFrom::Payload,
            _ => HeaderFrom::Seal,
        };
        return (seal.header.clone(), from);
    }
    if let Some((header, from)) = &located.header {
        return (header.clone(), *from);
    }
    if let Some(info) = &options.info {
        return (info.to_header(), HeaderFrom::Info);
    }
    (made, HeaderFrom::Payload)
}
