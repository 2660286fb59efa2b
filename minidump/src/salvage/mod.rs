//! Salvages damaged and truncated dumps: writes a valid dump with all data that can be recovered.
//!
//! Salvage has three steps: locate payload and header in the container (`locate`), find the pages
//! that are left (`survey`), and create the new payload (`payload`). For full dumps, `full` does the
//! last two. A file that contains a minidump is salvaged as a minidump, which has more information.
//!
//! A lost page becomes a *hole*: its bit in the bitmap is cleared and the pages after it move up. It
//! never becomes a page of zeros. The other parts of a dump:
//!
//! | lost                              | result                                                     |
//! |-----------------------------------|------------------------------------------------------------|
//! | minidump header, `dump_avail`     | an error: the pages have no addresses                      |
//! | a part of the bitmap              | pages before that part are kept; pages after it only if the size of the payload is known |
//! | message buffer, a part            | zeros, which its readers skip; the report has their number |
//! | page tables, a part               | zero entries, which map nothing; the report has their number |
//! | ELF header, program headers       | an error, for a full dump                                  |
//! | kerneldumpheader                  | the other copy of a dump device, that of the seal or of the info file, or a new one from the payload |
//!
//! Uncompressed data without a seal has no checksums: all of it is kept, but may be wrong. The
//! report counts such pages as unproven.

mod correct;
mod found;
mod full;
mod left;
mod locate;

mod options;
mod own;
mod payload;
mod report;
mod survey;

use std::sync::Arc;

use livecore_compress::salvage::Salvage as Stored;
use livecore_compress::{Codec, Output, Progress, ReadAt};

use crate::container::stream_options;
use crate::convert::{Target, Written, finish_record};
use crate::encryption::locate as locate_encrypted;
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

/// A salvaged dump, ready to be written.
pub struct Salvage {
    payload: Arc<dyn ReadAt>,
    page_size: u64,
    record: SealRecord,
    report: Report,
}

impl Salvage {
    /// Searches `source` for the remains of a dump. Decodes all data once.
    ///
    /// # Errors
    ///
    /// [`Error::NotADump`] if there is no part of a dump, [`Error::Unsupported`] for a kind of dump
    /// that cannot be read, [`Error::Broken`] if the headers are lost, [`Error::Io`] if the source
    /// cannot be read, [`Error::Cancelled`] if `progress` cancels.
    pub fn examine(
        source: Arc<dyn ReadAt>,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let encrypted = locate_encrypted(
            &source,
            options.open.key_file.as_ref(),
            &options.open.stream,
        );
        let mut stream_of = options.open.stream.clone();
        let (source, header) = match encrypted {
            Ok(Some(encrypted)) => {
                // Restart points contain plain data.
                stream_of.restart_cache = None;
                let plain = encrypted.decrypt(options.open.key.as_deref())?;
                (plain, encrypted.header)
            }
            // A damaged header can state a key that does not exist.
            Ok(None) | Err(Error::Broken { .. }) => (source, None),
            Err(error) => return Err(error),
        };
        let mut located = locate::locate(&source)?;
        located.header = located
            .header
            .or(header.map(|(header, _)| (header, HeaderFrom::Trailing)));
        let window = located.window(&source);
        let stream = stream_options(&*window, &stream_of)?;
        let mut stored = Stored::recover(Arc::clone(&window), &stream, progress)?;
        // Memory may contain seals of other dumps.
        let is_last = located.container() == "saved" && stored.is_seal_in_place();
        let has_doubt = stored.is_sealed() || !stored.damage().is_empty();
        if stored.codec() == Codec::None
            && has_doubt
            && !is_last
            && let Some(plain) = own::without_seal(&window, &stored, options)?
        {
            stored = plain;
        }
        stored.exclude(&options.missing);
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
        let mut corrections = found.corrections;
        let header = correct_header(header, &found.header, &mut corrections);
        corrections.extend(located.doubt().map(Into::into));
        let mut record = seal.unwrap_or_default();
        record.header = header;
        // Missing pages and pages filled with zeros are holes now.
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
            corrections,
            unplaced: stored.unplaced(),
        };
        // This includes what the old seal lists as unproven: its pieces have no proof.
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

    /// The report of kept and lost data.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Size of the new payload in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the size cannot be determined.
    pub fn payload_len(&self) -> Result<u64, Error> {
        Ok(self.payload.size()?)
    }

    /// The dump in the raw container, to check it before it is written.
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
            blocksize: page as u32, // a page is smaller than 4 GiB
            ..self.record.header.clone()
        };
        let mut tail = vec![0; pad as usize]; // less than a page
        tail.extend(header.with_parity().encode());
        Ok(Arc::new(RawFile {
            payload: Arc::clone(&self.payload),
            len,
            tail,
        }))
    }

    /// Writes the dump to `out` as `target` specifies.
    ///
    /// # Errors
    ///
    /// [`Error`] if the source cannot be read or the output cannot be written, [`Error::Cancelled`]
    /// if `progress` cancels.
    pub fn write(
        &self,
        target: &Target,
        out: &mut dyn Output,
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

/// A payload with padding and header after it.
struct RawFile {
    payload: Arc<dyn ReadAt>,
    len: u64,
    tail: Vec<u8>,
}

impl ReadAt for RawFile {
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

/// Corrects the fields of `header` that differ from `made`, the header created from the payload.
fn correct_header(
    header: KernelDumpHeader,
    made: &KernelDumpHeader,
    corrections: &mut Vec<String>,
) -> KernelDumpHeader {
    let mut new = header.clone();
    if header.architecture != made.architecture {
        new.architecture.clone_from(&made.architecture);
        corrections.push("kerneldumpheader, architecture: differs from the payload".into());
    }
    if header.architectureversion != made.architectureversion {
        new.architectureversion = made.architectureversion;
        corrections.push(format!(
            "kerneldumpheader, architectureversion: {:#x}, now {:#x}",
            header.architectureversion, made.architectureversion
        ));
    }
    if !header.blocksize.is_power_of_two() || header.blocksize < 512 {
        new.blocksize = made.blocksize;
        corrections.push(format!(
            "kerneldumpheader, blocksize: {:#x}, now {:#x}",
            header.blocksize, made.blocksize
        ));
    }
    new
}

/// Offset from which zeros were filled in, if the seal records it.
fn filled_from(seal: &SealRecord) -> Option<u64> {
    let record = seal.record(RECORD_SOURCE_LENGTH)?;
    let from = crate::ByteOrder::Little.uint(record)?;
    (seal.flags & FLAG_ZERO_TAIL != 0).then_some(from)
}

/// Encodes the record of losses: pages kept, pages lost, bytes of sections lost.
fn lost_record(report: &Report) -> Vec<u8> {
    let pages = &report.pages;
    let sections: u64 = report.sections.iter().map(|s| s.lost).sum();
    let lost = pages.lost.saturating_add(pages.unknown);
    [pages.kept, lost, sections]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect()
}

/// Size of the payload from a header whose checksum or parity matches. With it, the offsets of pages
/// after a gap are known.
fn trusted_len(located: &Located, seal: Option<&SealRecord>, stored: &Stored) -> Option<u64> {
    if let Some(len) = stored.stated_len() {
        return Some(len);
    }
    if let Some(seal) = seal {
        return Some(seal.header.dumpextent).filter(|len| *len > 0);
    }
    // The extent of a compressed dump may be the size of the device.
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
