//! Any open dump into any container and codec; and the end that producers and conversions share:
//! payload, padding, header, seal.
//!
//! | container | what is written                                                                  |
//! |-----------|----------------------------------------------------------------------------------|
//! | saved     | the payload in one piece                                                         |
//! | raw       | the payload in one piece, zeros up to a page, the header                         |
//! | sealed    | the payload in frames, then the seal, whose attachment holds the header          |
//!
//! The header's lengths, compression and parity are made here, from what was really written.
//! A foreign stream is decoded in order by one thread and encoded by the others. A compressed
//! stream that becomes bytes in one piece is decoded in order, by all threads if it has frames, and
//! written as it comes. Everything else is read by the encoder's workers at their own offsets.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use livecore_compress::seal::format::PART_UNPROVEN;
use livecore_compress::{
    Codec, Encoding, NoProgress, Progress, ReadAt, Shape, Stored, Stream, StreamKind, encode_at,
    encode_read, write_seal,
};

use crate::container::Container;
use crate::copied;
use crate::elf::export::{Export, Joined};
use crate::header::HEADER_BYTES;
use crate::kerneldump::Magic;
use crate::{
    AnyDump, ByteOrder, Dump, Error, FullDump, HeaderOrigin, KernelDumpHeader, KernelMemory,
    MinidumpHeader, Provenance, SealRecord,
};
use livecore_defs::seal::{
    FLAG_HEADER_FROM_INFO, FLAG_HEADER_FROM_PAYLOAD, FLAG_SHORT, FLAG_ZERO_TAIL,
    RECORD_SOURCE_LENGTH,
};

/// What a dump is to be written as.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The container.
    pub container: Container,
    /// Codec, level, frames, workers.
    pub encoding: Encoding,
}

impl Target {
    /// Whether the options make sense. Whoever wants to know before a file is made can ask.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the container cannot have the codec.
    pub fn check(&self) -> Result<(), Error> {
        if self.container == Container::Device {
            return Err(Error::Options(
                "a dump device is written by a kernel only".into(),
            ));
        }
        Ok(self.encoding.check(self.shape())?)
    }

    /// The same with a second copy of the first `len` bytes, if it has a seal.
    fn copying(&self, len: u64) -> Self {
        Self {
            encoding: self.encoding.copy(len),
            ..*self
        }
    }

    /// Whether what is written is the content and nothing else, but for a header behind it.
    fn is_plain(&self) -> bool {
        self.encoding.codec == Codec::None && self.shape() == Shape::Single
    }

    fn shape(&self) -> Shape {
        match self.container {
            Container::Sealed => Shape::Frames,
            Container::Saved | Container::Raw | Container::Device => Shape::Single,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the payload.
    pub payload_len: u64,
    /// Bytes of the payload as it is stored.
    pub stored_len: u64,
    /// Bytes in all: with padding and header, or with the seal.
    pub file_len: u64,
    /// The header that the dump has now, in it or to be put beside it.
    pub header: KernelDumpHeader,
    /// What its producer did to it: in its seal, and for `info.N`.
    pub provenance: Provenance,
}

/// Writes `payload` as `target` says, under `header`, whose lengths, compression and parity are
/// filled in.
///
/// # Errors
///
/// [`Error`] if the payload cannot be read or the output not be written, [`Error::Cancelled`] if `progress`
/// ends it.
pub fn finish(
    payload: &dyn ReadAt,
    header: KernelDumpHeader,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    finish_with(payload, header, &Provenance::default, target, out, progress)
}

/// [`finish`], with what the producer has to say for itself. It is asked when every byte of the
/// payload has been read: not before that does it know what changed meanwhile.
///
/// # Errors
///
/// Those of [`finish`].
pub fn finish_with(
    payload: &dyn ReadAt,
    header: KernelDumpHeader,
    provenance: &dyn Fn() -> Provenance,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let mut head = [0; HEADER_BYTES];
    let got = payload.read_full_at(&mut head, 0)?;
    // What is no minidump has pages of 4 KiB: full dumps.
    let page_size = MinidumpHeader::parse(&head[..got]).map_or(4096, |h| h.page_size());
    // What changed while the pages were read is known when they have been.
    let record = || SealRecord {
        header,
        records: provenance().records(),
        ..SealRecord::default()
    };
    finish_record(payload, record, page_size, target, out, progress)
}

/// The same under a header with all that a seal keeps beside it. `record` is asked for when the
/// payload has been written.
pub(crate) fn finish_record(
    payload: &dyn ReadAt,
    record: impl FnOnce() -> SealRecord,
    page_size: u64,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let target = &target.copying(copied::of_payload(payload)?);
    let stored = encode_at(payload, &target.encoding, target.shape(), out, progress)?;
    close(stored, record(), page_size, target, out)
}

/// Writes what an open dump holds as `target` says. The payload's bytes are the same, but for the
/// zeros that [`crate::OpenOptions::zero_tail`] adds.
///
/// A header that the dump lacks is the info file's, else one made from the payload; a seal says so.
/// A raw file states its length, so a dump whose page data is cut short becomes one only with its
/// tail filled.
///
/// # Errors
///
/// Those of [`finish`], and [`Error::Options`] if the target cannot hold the dump.
pub fn convert(
    dump: &Dump,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    if let Some(len) = dump.envelope().known_len() {
        refuse_short_raw(dump, target, len)?;
    }
    let target = &target.copying(copied::of_layout(&dump.layout()));
    let shape = target.shape();
    let stored =
        if goes_in_order(dump.envelope().stream(), target) && !dump.envelope().is_embedded() {
            let pad_to = if dump.zero_tail() {
                dump.layout().end()
            } else {
                0
            };
            let splice = Splice {
                pad_to,
                ..Splice::default()
            };
            store_decoded(dump.envelope().stream(), splice, target, out, progress)?
        } else {
            encode_at(&*dump.payload(), &target.encoding, shape, out, progress)?
        };
    refuse_interrupted(
        dump.envelope().stream(),
        stored.content_len,
        dump.layout().end(),
    )?;
    refuse_short_raw(dump, target, stored.content_len)?;
    let record = record_of(dump, stored.content_len)?;
    close(stored, record, dump.layout().page_size(), target, out)
}

/// Writes a full dump as `target` says, its payload byte for byte.
///
/// # Errors
///
/// Those of [`convert()`].
pub fn convert_full(
    dump: &FullDump,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    if let Some(len) = dump.envelope().known_len() {
        refuse_cut_raw(target, len, dump.end())?;
    }
    let first = dump.ranges().iter().map(|range| range.offset).min();
    let target = &target.copying(copied::of_headers(first.unwrap_or(0)));
    let stored = if goes_in_order(dump.envelope().stream(), target) {
        store_decoded(
            dump.envelope().stream(),
            Splice::default(),
            target,
            out,
            progress,
        )?
    } else {
        encode_at(
            &*dump.payload(),
            &target.encoding,
            target.shape(),
            out,
            progress,
        )?
    };
    refuse_interrupted(dump.envelope().stream(), stored.content_len, dump.end())?;
    refuse_cut_raw(target, stored.content_len, dump.end())?;
    let record = record_of_full(dump, stored.content_len);
    close(stored, record, dump.page_size(), target, out)
}

/// Writes a full dump as the ELF core that was planned: [`crate::elf::export::export_full`].
///
/// # Errors
///
/// As [`convert_full`].
pub fn full_to_elf(
    dump: &FullDump,
    export: &Export,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let target = &target.copying(copied::of_headers(export.head_len));
    let shape = target.shape();
    let stored = encode_at(&*export.core, &target.encoding, shape, out, progress)?;
    let mut record = record_of_full(dump, stored.content_len.saturating_sub(export.head_len));
    // The core has the pages in another order.
    record.move_ranges(None);
    close(stored, record, dump.page_size(), target, out)
}

/// The attachment of a full dump that is being written, with so many bytes of its payload.
fn record_of_full(dump: &FullDump, content_len: u64) -> SealRecord {
    let port = || KernelDumpHeader::of_port(dump.arch(), dump.order(), dump.page_size());
    let mut record = dump.envelope().seal().cloned().unwrap_or_default();
    record.header = dump
        .envelope()
        .kerneldumpheader()
        .cloned()
        .unwrap_or_else(port);
    record.flags |= header_flags(dump.envelope().header_origin());
    if content_len < dump.end() {
        record.flags |= FLAG_SHORT;
    }
    record
}

/// Writes a dump of any kind as `target` says, as the kind that it is: [`convert()`] or
/// [`convert_full`].
///
/// # Errors
///
/// Those of [`convert()`].
pub fn convert_any(
    dump: &AnyDump,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    match dump {
        AnyDump::Mini(dump) => convert(dump, target, out, progress),
        AnyDump::Full(dump) => convert_full(dump, target, out, progress),
    }
}

/// Writes a minidump as a full dump: an ELF core with one segment per run of pages that are in the
/// dump, at their physical addresses.
///
/// The segments point into the minidump, which stands behind the headers as it is; a note says
/// where ([`FullDump::minidump`]). A reader that does not know the note finds physical addresses,
/// and virtual ones only as far as the tables that lead to them happened to be in the dump: a
/// minidump's page tables are a section of its own, and no memory of the machine's.
///
/// # Errors
///
/// Those of [`convert()`].
pub fn to_full(
    dump: &Dump,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    if let Some(len) = dump.envelope().known_len() {
        refuse_short_raw(dump, target, len)?;
    }
    // Of a stream in one piece it decodes it to its end.
    let payload_len = dump.payload().size()?;
    let head = crate::full::write::head(dump, payload_len)?;
    let head_len = head.len() as u64;
    let end = head_len + dump.layout().end();
    let target = &target.copying(head_len + copied::of_layout(&dump.layout()));
    let stored =
        if goes_in_order(dump.envelope().stream(), target) && !dump.envelope().is_embedded() {
            let pad_to = if dump.zero_tail() { end } else { 0 };
            let splice = Splice { head, pad_to };
            store_decoded(dump.envelope().stream(), splice, target, out, progress)?
        } else {
            let body = dump.payload();
            let joined = Joined { head, body };
            encode_at(&joined, &target.encoding, target.shape(), out, progress)?
        };
    refuse_interrupted(dump.envelope().stream(), stored.content_len, end)?;
    refuse_cut_raw(target, stored.content_len, end)?;
    let mut record = record_of(dump, stored.content_len.saturating_sub(head_len))?;
    move_source_len(&mut record, |len| len.checked_add(head_len));
    record.move_ranges(Some(head_len));
    close(stored, record, dump.layout().page_size(), target, out)
}

/// Writes a planned ELF core ([`crate::elf::export`]) of `dump` as `target` says.
///
/// # Errors
///
/// Those of [`convert()`].
pub fn to_elf(
    dump: &Dump,
    export: &Export,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let target = &target.copying(copied::of_headers(export.head_len));
    let shape = target.shape();
    let stored = encode_at(&*export.core, &target.encoding, shape, out, progress)?;
    let mut record = record_of(dump, stored.content_len.saturating_sub(export.head_len))?;
    move_source_len(&mut record, |len| len.checked_add(export.head_len));
    // The core has the pages in another order.
    record.move_ranges(None);
    close(stored, record, dump.layout().page_size(), target, out)
}

/// What was there of a dump whose tail was filled is said in the offsets of what is written.
fn move_source_len(record: &mut SealRecord, moved: impl FnOnce(u64) -> Option<u64>) {
    let len = record
        .record(RECORD_SOURCE_LENGTH)
        .and_then(|bytes| ByteOrder::Little.uint(bytes));
    if let Some(len) = len.and_then(moved) {
        record.set_record(RECORD_SOURCE_LENGTH, len.to_le_bytes().to_vec());
    }
}

/// Refuses content that ends before its end at `end` and is followed by something: that may be the
/// rest of it, damaged.
fn refuse_interrupted(stream: &Stream, len: u64, end: u64) -> Result<(), Error> {
    match stream.interruption() {
        Some(why) if len < end => Err(why.into()),
        _ => Ok(()),
    }
}

fn refuse_cut_raw(target: &Target, len: u64, end: u64) -> Result<(), Error> {
    if target.container != Container::Raw || len >= end {
        return Ok(());
    }
    Err(Error::Options(format!(
        "a raw file states its length, and this dump ends at {len:#x} of {end:#x}: another \
         container must be chosen"
    )))
}

fn header_flags(origin: &HeaderOrigin) -> u32 {
    match origin {
        HeaderOrigin::Info(_) => FLAG_HEADER_FROM_INFO,
        HeaderOrigin::Absent => FLAG_HEADER_FROM_PAYLOAD,
        _ => 0,
    }
}

fn refuse_short_raw(dump: &Dump, target: &Target, len: u64) -> Result<(), Error> {
    let end = dump.layout().end();
    if target.container != Container::Raw || dump.zero_tail() || len >= end {
        return Ok(());
    }
    Err(Error::Options(format!(
        "a raw file states its length, and this dump ends at {len:#x} of {end:#x}: its tail must \
         be filled with zeros, or another container chosen"
    )))
}

/// The attachment of the dump that is being written: its header, and how that was come by.
fn record_of(dump: &Dump, content_len: u64) -> Result<SealRecord, Error> {
    let mut record = dump.envelope().seal().cloned().unwrap_or_default();
    record.header = dump
        .envelope()
        .kerneldumpheader()
        .cloned()
        .unwrap_or_else(|| KernelDumpHeader::from_payload(dump.header()));
    record.flags |= header_flags(dump.envelope().header_origin());
    if dump.zero_tail() {
        // A foreign stream has been decoded to its end by now.
        if let Some(short) = dump.shortness()? {
            record.flags |= FLAG_ZERO_TAIL;
            record.flags &= !FLAG_SHORT;
            let len = short.actual.to_le_bytes().to_vec();
            record.set_record(RECORD_SOURCE_LENGTH, len);
        }
    } else if content_len < dump.layout().end() {
        record.flags |= FLAG_SHORT;
    }
    Ok(record)
}

/// Padding and header, or seal, behind what was stored.
fn close(
    mut stored: Stored,
    mut record: SealRecord,
    page_size: u64,
    target: &Target,
    out: &mut dyn Write,
) -> Result<Written, Error> {
    let header = &mut record.header;
    header.magic = Magic::Kernel;
    header.dumplength = stored.stored_len;
    header.dumpextent = stored.content_len;
    header.dumpkeysize = 0;
    header.compression = KernelDumpHeader::compression_of(target.encoding.codec);
    if target.container == Container::Raw {
        // The header is found by this; a page is far below 4 GiB.
        header.blocksize = page_size as u32;
    }
    record.header = record.header.with_parity();
    let write = |e| Error::io("write", e);
    let behind = match target.container {
        // [`Target::check`] has refused a device.
        Container::Saved | Container::Device => 0,
        Container::Raw => {
            let pad = stored.stored_len.next_multiple_of(page_size) - stored.stored_len;
            out.write_all(&vec![0; pad as usize]).map_err(write)?; // less than a page
            let block = record.header.encode();
            out.write_all(&block).map_err(write)?;
            pad + block.len() as u64
        }
        Container::Sealed => {
            stored.add_list(PART_UNPROVEN, &record.encode_ranges());
            write_seal(&stored, &record.encode(), out)?
        }
    };
    Ok(Written {
        payload_len: stored.content_len,
        stored_len: stored.stored_len,
        file_len: stored.stored_len + behind,
        provenance: Provenance::of(&record),
        header: record.header,
    })
}

/// Whether `stream` is decoded from its front to become what `target` says: one that can be read in
/// no other way, and one of which nothing is to be made but its content.
fn goes_in_order(stream: &Stream, target: &Target) -> bool {
    match (stream.kind(), stream.frames()) {
        (StreamKind::Plain, _) => false,
        (_, None) => true,
        // All the frames: what is cut off is for those who read at offsets.
        (_, Some(_)) => target.is_plain() && stream.known_len().is_some(),
    }
}

/// Stores what `stream` holds, decoding it from its front.
fn store_decoded(
    stream: &Stream,
    splice: Splice,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    if target.is_plain() {
        copy_decoded(stream, splice, out, progress)
    } else {
        encode_decoded(stream, splice, target, out, progress)
    }
}

/// Progress of bytes that are written as they are decoded: as many stored as there is content.
struct Copied<'a>(&'a dyn Progress);

impl Progress for Copied<'_> {
    fn advance(&self, content: u64, _: u64) {
        self.0.advance(content, content);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Decodes `stream` and writes what comes out as it is.
fn copy_decoded(
    stream: &Stream,
    splice: Splice,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let mut len = 0_u64;
    let mut put = |bytes: &[u8]| {
        len += bytes.len() as u64;
        out.write_all(bytes)
            .map_err(livecore_compress::Error::Write)
    };
    put(&splice.head)?;
    let mut sink = |_: u64, piece: &[u8]| put(piece);
    stream.decode(&mut sink, &Copied(progress))?;
    let zeros = vec![0; PADDING];
    while len < splice.pad_to {
        if progress.cancelled() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        let n = (splice.pad_to - len).min(PADDING as u64);
        // At most PADDING.
        out.write_all(&zeros[..n as usize])
            .map_err(livecore_compress::Error::Write)?;
        len += n;
        progress.advance(n, n);
    }
    Ok(Stored::plain(len))
}

/// Zeros that are written at once.
const PADDING: usize = 1 << 20;

/// Pieces that may wait between the thread that decodes and the one that encodes.
const PIECES: usize = 4;

/// What is done with a decoded stream before it is stored.
#[derive(Debug, Default)]
struct Splice {
    /// Bytes that come before it.
    head: Vec<u8>,
    /// The length that is stored at least, filled with zeros.
    pad_to: u64,
}

/// Decodes `stream` in order on a thread of its own and stores what comes out. Memory: [`PIECES`]
/// pieces of the decoder's, and the encoder's own.
fn encode_decoded(
    stream: &Stream,
    splice: Splice,
    target: &Target,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel(PIECES);
        let splice = &splice;
        let decode = move || {
            let mut sink = |_: u64, piece: &[u8]| {
                // Nobody listens any more: the encoder has failed, and says why itself.
                let sent = sender.send(Piece::Bytes(piece.to_vec()));
                sent.map_err(|_| livecore_compress::Error::Cancelled)
            };
            let end = match stream.decode(&mut sink, &NoProgress) {
                Ok(_) => Piece::End,
                Err(error) => Piece::Failed(error.into()),
            };
            // Again: if nobody listens, nobody needs to know.
            let _ = sender.send(end);
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, decode);
        thread.map_err(|source| Error::io("start a thread", source))?;
        let mut pipe = Pipe {
            pieces,
            current: splice.head.clone(),
            at: 0,
            given: 0,
            ended: false,
            pad_to: splice.pad_to,
        };
        let stored = encode_read(&mut pipe, &target.encoding, target.shape(), out, progress);
        // The decoder must not wait for a reader that is gone.
        drop(pipe);
        Ok(stored?)
    })
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

/// The reading end of [`encode_decoded`].
struct Pipe {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    given: u64,
    ended: bool,
    pad_to: u64,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.pieces.recv() {
                Ok(Piece::Bytes(bytes)) => {
                    self.current = bytes;
                    self.at = 0;
                }
                Ok(Piece::End) => self.ended = true,
                Ok(Piece::Failed(error)) => return Err(error),
                Err(_) => return Err(io::Error::other("the decoding thread has panicked")),
            }
        }
        let rest = &self.current[self.at..];
        let n = if rest.is_empty() {
            let n = self.pad_to.saturating_sub(self.given).min(buf.len() as u64) as usize;
            buf[..n].fill(0);
            n
        } else {
            let n = rest.len().min(buf.len());
            buf[..n].copy_from_slice(&rest[..n]);
            self.at += n;
            n
        };
        self.given += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
