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

mod found;
mod full;
mod left;
mod locate;
mod mend;
mod options;
mod payload;
mod report;
mod survey;

use std::io::Write;
use std::sync::Arc;

use livecore_compress::salvage::Salvage as Stored;
use livecore_compress::{Progress, ReadAt};

use crate::convert::{Target, Written, finish_record};
use crate::kerneldump::Magic;
use crate::{Error, KernelDumpHeader, SealRecord, Unproven};
use livecore_defs::seal::{
    FLAG_HEADER_FROM_INFO, FLAG_HEADER_FROM_PAYLOAD, FLAG_SALVAGED, FLAG_SHORT, FLAG_ZERO_TAIL,
    RECORD_SALVAGED, RECORD_SOURCE_LENGTH,
};

use left::Left;
use locate::Located;
use options::Known;

pub use options::Options;
pub use report::{HeaderFrom, PageCount, Report, SectionLoss};

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
    ///
    /// # Errors
    ///
    /// [`Error::NotADump`] if nothing of a dump is found, [`Error::Io`] if the source cannot be read,
    /// [`Error::Cancelled`] if `progress` ends it.
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
            payload::mini(&mut left, options, known)?
        };
        let stored = left.stored;
        let (header, from) = header_of(&located, seal.as_ref(), options, &found.header);
        let mut mended = found.mended;
        let header = mend_header(header, &found.header, &mut mended);
        mended.extend(located.doubt().map(Into::into));
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
            mended,
            unplaced: stored.unplaced(),
        };
        // What nothing proves now was not proven by the seal that is left, either.
        record.set_unproven(
            Unproven {
                pages: report.pages.unproven,
                section_bytes: found.unproven_sections,
            },
            found.unproven,
        );
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
    ///
    /// # Errors
    ///
    /// [`Error`] if the plan of the new dump is not valid.
    pub fn payload_len(&self) -> Result<u64, Error> {
        Ok(self.payload.size()?)
    }

    /// The dump as a raw live file, which is not written anywhere: for those who check it before
    /// they write it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the payload cannot be read.
    pub fn as_raw_file(&self) -> Result<Arc<dyn ReadAt>, Error> {
        let len = self.payload.size()?;
        let page = self.page_size.max(512);
        let pad = len.next_multiple_of(page) - len;
        let header = KernelDumpHeader {
            magic: Magic::Kernel,
            dumplength: len,
            dumpextent: len,
            dumpkeysize: 0,
            compression: 0,
            blocksize: page as u32, // a page is far below 4 GiB
            ..self.record.header.clone()
        };
        let mut tail = vec![0; pad as usize]; // less than a page
        tail.extend(header.with_parity().encode());
        Ok(Arc::new(Ended {
            payload: Arc::clone(&self.payload),
            len,
            tail,
        }))
    }

    /// Writes the dump as `target` says.
    ///
    /// # Errors
    ///
    /// [`Error`] if the source cannot be read or the output not be written, [`Error::Cancelled`] if `progress`
    /// ends it.
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

/// A payload and what follows it.
struct Ended {
    payload: Arc<dyn ReadAt>,
    len: u64,
    tail: Vec<u8>,
}

impl ReadAt for Ended {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.len + self.tail.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        if offset >= self.len {
            return self.tail.read_at(buf, offset - self.len);
        }
        let left = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
        let n = left.min(buf.len());
        self.payload.read_at(&mut buf[..n], offset)
    }
}

/// The header with the fields right that the payload and the system know better.
fn mend_header(
    header: KernelDumpHeader,
    made: &KernelDumpHeader,
    mended: &mut Vec<String>,
) -> KernelDumpHeader {
    let mut new = header.clone();
    if header.architecture != made.architecture {
        new.architecture.clone_from(&made.architecture);
        mended.push("kerneldumpheader, architecture: not the payload's".into());
    }
    if header.architectureversion != made.architectureversion {
        new.architectureversion = made.architectureversion;
        mended.push(format!(
            "kerneldumpheader, architectureversion: {:#x}, now {:#x}",
            header.architectureversion, made.architectureversion
        ));
    }
    if !header.blocksize.is_power_of_two() || header.blocksize < 512 {
        new.blocksize = made.blocksize;
        mended.push(format!(
            "kerneldumpheader, blocksize: {:#x}, now {:#x}",
            header.blocksize, made.blocksize
        ));
    }
    new
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
    made: &KernelDumpHeader,
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
    (made.clone(), HeaderFrom::Payload)
}
