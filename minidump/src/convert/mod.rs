//! Writes dumps: converts an open dump to another container and codec, and writes the payload,
//! padding, header and seal of a new one.
//!
//! | container | what is written                                                                  |
//! |-----------|----------------------------------------------------------------------------------|
//! | saved     | the payload as a single stream                                                   |
//! | raw       | the payload as a single stream, zeros up to a page boundary, the header          |
//! | sealed    | the payload in frames, then the seal, whose attachment contains the header       |
//!
//! The lengths, the compression and the parity of the header are computed here from the bytes
//! written. A stream without an index is decoded in order by one thread and encoded by the others.
//! A compressed stream that becomes uncompressed bytes is written as it is decoded, by all threads if
//! it has frames. Everything else is read by the encoder's workers, each at its own offset. The
//! threads write uncompressed bytes to a file at their offsets, and any other output in order.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use livecore_compress::seal::format::{PART_EXCLUDED, PART_UNPROVEN};
use livecore_compress::{
    Codec, Encoding, NoProgress, Output, Progress, ReadAt, Shape, Stored, Stream, StreamKind,
    encode_at, encode_read, write_seal,
};

use crate::container::Container;
use crate::copied;
use crate::dump::Envelope;
use crate::elf::export::{Export, Joined};
use crate::header::HEADER_BYTES;
use crate::kerneldump::Magic;
use crate::provenance::Provenance;
use crate::{
    AnyDump, ByteOrder, Dump, Error, FullDump, HeaderOrigin, KernelDumpHeader, KernelMemory,
    MinidumpHeader, SealRecord,
};
use livecore_defs::seal::{
    FLAG_HEADER_FROM_INFO, FLAG_HEADER_FROM_PAYLOAD, FLAG_SHORT, FLAG_ZERO_TAIL,
    RECORD_SOURCE_LENGTH,
};

/// Container and encoding of a dump to write.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The container.
    pub container: Container,
    /// Codec, level, frame size and number of workers.
    pub encoding: Encoding,
}

impl Target {
    /// Checks the options. A caller can do so before it creates a file.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the container does not support the codec.
    pub fn check(&self) -> Result<(), Error> {
        if self.container == Container::Device {
            return Err(Error::Options(
                "cannot write a dump device: only a kernel does".into(),
            ));
        }
        Ok(self.encoding.check(self.shape())?)
    }

    /// Returns the target with a second copy of the first `len` bytes, if it has a seal.
    fn copying(&self, len: u64) -> Self {
        Self {
            encoding: self.encoding.copy(len),
            ..*self
        }
    }

    /// Whether the content is written unencoded, with at most a header after it.
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

/// Sizes, header and provenance of a dump that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Size of the payload in bytes.
    pub payload_len: u64,
    /// Size of the stored (encoded) payload in bytes.
    pub stored_len: u64,
    /// Size of the file in bytes, with padding and header or with the seal.
    pub file_len: u64,
    /// The new header of the dump: in the file, or for a separate `info.N`.
    pub header: KernelDumpHeader,
    /// Flags of the seal, such as [`FLAG_SHORT`].
    pub flags: u32,
    /// How the dump was produced: recorded in the seal and in `info.N`.
    pub provenance: Provenance,
}

/// Writes `payload` to `out` as `target` specifies. Fills in the lengths, the compression and the
/// parity of `header`.
///
/// # Errors
///
/// [`Error`] if the payload cannot be read or the output cannot be written, [`Error::Cancelled`] if
/// `progress` cancels.
pub fn finish(
    payload: &dyn ReadAt,
    header: KernelDumpHeader,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    finish_with(payload, header, &Provenance::default, target, out, progress)
}

/// [`finish`] with a provenance. `provenance` is called after the whole payload has been read,
/// because only then does the producer know which pages changed during the read.
///
/// # Errors
///
/// Those of [`finish`].
pub fn finish_with(
    payload: &dyn ReadAt,
    header: KernelDumpHeader,
    provenance: &dyn Fn() -> Provenance,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let mut head = [0; HEADER_BYTES];
    let got = payload.read_full_at(&mut head, 0)?;
    // Other payloads are full dumps, with pages of 4 KiB.
    let page_size = MinidumpHeader::parse(&head[..got]).map_or(4096, |h| h.page_size());
    let record = || SealRecord {
        header,
        records: provenance().records(),
        ..SealRecord::default()
    };
    finish_record(payload, record, page_size, target, out, progress)
}

/// [`finish`] with the whole attachment of a seal. `record` is called after the payload has been
/// written.
pub(crate) fn finish_record(
    payload: &dyn ReadAt,
    record: impl FnOnce() -> SealRecord,
    page_size: u64,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let target = &target.copying(copied::of_payload(payload)?);
    let stored = encode_at(payload, &target.encoding, target.shape(), out, progress)?;
    close(stored, record(), page_size, target, out)
}

/// Writes an open minidump to `out` as `target` specifies. The payload does not change, except for
/// the zeros that [`crate::OpenOptions::zero_tail`] appends.
///
/// If the dump has no header, the header comes from the info file, or else from the payload; the
/// seal records which. A raw file states its length, so a truncated dump can be written as one only
/// if the missing tail is filled with zeros.
///
/// # Errors
///
/// Those of [`finish`], and [`Error::Options`] if the target cannot contain the dump.
pub fn convert(
    dump: &Dump,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let end = dump.layout().end();
    if let Some(len) = dump.envelope().known_len() {
        refuse_short_raw(dump, target, len)?;
    }
    let target = &target.copying(copied::of_layout(&dump.layout()));
    let splice = Splice {
        pad_to: if dump.zero_tail() { end } else { 0 },
        ..Splice::default()
    };
    let (envelope, payload) = (dump.envelope(), dump.payload());
    let stored = store(envelope, payload, splice, end, target, out, progress)?;
    refuse_short_raw(dump, target, stored.content_len)?;
    let record = record_of(dump, stored.content_len)?;
    close(stored, record, dump.layout().page_size(), target, out)
}

/// Writes a full dump to `out` as `target` specifies. The payload does not change.
///
/// # Errors
///
/// Those of [`convert()`].
pub fn convert_full(
    dump: &FullDump,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    if let Some(len) = dump.envelope().known_len() {
        refuse_cut_raw(target, len, dump.end(), "")?;
    }
    let first = dump.ranges().iter().map(|range| range.offset).min();
    let target = &target.copying(copied::of_headers(first.unwrap_or(0)));
    let (envelope, payload, splice) = (dump.envelope(), dump.payload(), Splice::default());
    let stored = store(envelope, payload, splice, dump.end(), target, out, progress)?;
    refuse_cut_raw(target, stored.content_len, dump.end(), "")?;
    let record = record_of_full(dump, stored.content_len);
    close(stored, record, dump.page_size(), target, out)
}

/// Writes a full dump as an ELF core planned by [`crate::elf::export::export_full`].
///
/// # Errors
///
/// As [`convert_full`].
pub fn full_to_elf(
    dump: &FullDump,
    export: &Export,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    let record = |len| Ok(record_of_full(dump, len));
    store_export(export, &record, dump.page_size(), target, out, progress)
}

/// The attachment for a full dump of which `content_len` bytes of payload were written.
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

/// Writes a dump of either kind to `out` as `target` specifies, by [`convert()`] or
/// [`convert_full`].
///
/// # Errors
///
/// Those of [`convert()`].
pub fn convert_any(
    dump: &AnyDump,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    match dump {
        AnyDump::Mini(dump) => convert(dump, target, out, progress),
        AnyDump::Full(dump) => convert_full(dump, target, out, progress),
    }
}

/// Writes a minidump as a full dump: an ELF core with one segment for each run of contiguous pages
/// in the dump, at their physical addresses.
///
/// The minidump follows the headers unchanged, and the segments refer to its pages; a note gives
/// its offset ([`FullDump::minidump`]). A reader that does not know the note can read physical
/// addresses. It can translate virtual addresses only where the page tables in memory are part of
/// the dump: the page tables of a minidump are a separate section, not memory of the machine.
///
/// # Errors
///
/// Those of [`convert()`].
pub fn to_full(
    dump: &Dump,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    if let Some(len) = dump.envelope().known_len() {
        refuse_short_raw(dump, target, len)?;
    }
    // This decodes a stream without an index to its end.
    let payload_len = dump.payload().size()?;
    let head = crate::full::write::head(dump, payload_len)?;
    let head_len = head.len() as u64;
    let end = head_len + dump.layout().end();
    let target = &target.copying(head_len + copied::of_layout(&dump.layout()));
    let pad_to = if dump.zero_tail() { end } else { 0 };
    let (splice, payload) = (Splice { head, pad_to }, dump.payload());
    let envelope = dump.envelope();
    let stored = store(envelope, payload, splice, end, target, out, progress)?;
    refuse_cut_raw(target, stored.content_len, end, "")?;
    let mut record = record_of(dump, stored.content_len.saturating_sub(head_len))?;
    move_source_len(&mut record, |len| len.checked_add(head_len));
    record.move_ranges(Some(head_len));
    close(stored, record, dump.layout().page_size(), target, out)
}

/// Writes an ELF core of `dump` planned by [`crate::elf::export`].
///
/// # Errors
///
/// Those of [`convert()`].
pub fn to_elf(
    dump: &Dump,
    export: &Export,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    let page = dump.layout().page_size();
    let record = |len| record_of(dump, len);
    store_export(export, &record, page, target, out, progress)
}

/// Writes a planned ELF core. `record` returns the attachment for a payload of which so many bytes
/// were written.
fn store_export(
    export: &Export,
    record: &dyn Fn(u64) -> Result<SealRecord, Error>,
    page_size: u64,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    target.check()?;
    let target = &target.copying(copied::of_headers(export.head_len));
    let shape = target.shape();
    let stored = encode_at(&*export.core, &target.encoding, shape, out, progress)?;
    let mut record = record(stored.content_len.saturating_sub(export.head_len))?;
    move_source_len(&mut record, |len| len.checked_add(export.head_len));
    // The pages are in another order in the core.
    record.move_ranges(None);
    close(stored, record, page_size, target, out)
}

/// Writes the content of a dump with `splice`: in order from its stream, or else `payload` by all
/// workers. Refuses an interrupted stream that stops before `end`.
fn store(
    envelope: &Envelope,
    payload: Arc<dyn ReadAt>,
    splice: Splice,
    end: u64,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let stream = envelope.stream();
    let stored = if goes_in_order(stream, target) && !envelope.is_embedded() {
        store_decoded(stream, splice, target, out, progress)?
    } else {
        let joined = Joined {
            head: splice.head,
            body: payload,
        };
        encode_at(&joined, &target.encoding, target.shape(), out, progress)?
    };
    // Data after the content may be the damaged rest.
    match stream.interruption() {
        Some(why) if stored.content_len < end => Err(why.into()),
        _ => Ok(stored),
    }
}

/// Converts the recorded source length of a dump with a zero-filled tail to an offset in the
/// written payload.
fn move_source_len(record: &mut SealRecord, moved: impl FnOnce(u64) -> Option<u64>) {
    let len = record
        .record(RECORD_SOURCE_LENGTH)
        .and_then(|bytes| ByteOrder::Little.uint(bytes));
    if let Some(len) = len.and_then(moved) {
        record.set_record(RECORD_SOURCE_LENGTH, len.to_le_bytes().to_vec());
    }
}

/// Refuses a truncated dump as a raw file. `or` is another way to write it.
fn refuse_cut_raw(target: &Target, len: u64, end: u64, or: &str) -> Result<(), Error> {
    if target.container != Container::Raw || len >= end {
        return Ok(());
    }
    Err(Error::Options(format!(
        "dump is truncated at {len:#x} of {end:#x} and a raw file states its length: {or}choose \
         another container"
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
    if dump.zero_tail() {
        return Ok(());
    }
    let or = "fill the missing tail with zeros or ";
    refuse_cut_raw(target, len, dump.layout().end(), or)
}

/// The attachment for a written minidump: its header, the origin of that header, and records.
pub(crate) fn record_of(dump: &Dump, content_len: u64) -> Result<SealRecord, Error> {
    let mut record = dump.envelope().seal().cloned().unwrap_or_default();
    record.header = dump
        .envelope()
        .kerneldumpheader()
        .cloned()
        .unwrap_or_else(|| KernelDumpHeader::from_payload(dump.header()));
    record.flags |= header_flags(dump.envelope().header_origin());
    if dump.zero_tail() {
        // A stream without an index has been decoded to its end by now.
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

/// Writes padding and header, or the seal, after the stored payload.
fn close(
    mut stored: Stored,
    mut record: SealRecord,
    page_size: u64,
    target: &Target,
    out: &mut dyn Output,
) -> Result<Written, Error> {
    let header = &mut record.header;
    header.magic = Magic::Kernel;
    header.dumplength = stored.stored_len;
    header.dumpextent = stored.content_len;
    header.dumpkeysize = 0;
    header.compression = KernelDumpHeader::compression_of(target.encoding.codec);
    if target.container == Container::Raw {
        // Readers find the header by this field. A page is smaller than 4 GiB.
        header.blocksize = page_size as u32;
    }
    record.header = record.header.with_parity();
    let write = |e| Error::io("write", e);
    let added = match target.container {
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
            if let Some(excluded) = &record.excluded {
                stored.add_list(PART_EXCLUDED, &excluded.encode_list());
            }
            write_seal(&stored, &record.encode(), out)?
        }
    };
    Ok(Written {
        payload_len: stored.content_len,
        stored_len: stored.stored_len,
        file_len: stored.stored_len + added,
        flags: record.flags,
        provenance: Provenance::of(&record),
        header: record.header,
    })
}

/// Whether to decode `stream` from its start: if it has no index, or if `target` is unencoded.
fn goes_in_order(stream: &Stream, target: &Target) -> bool {
    match (stream.kind(), stream.frames()) {
        (StreamKind::Plain, _) => false,
        (_, None) => true,
        // Only with all frames: the rest of a truncated stream is read at offsets.
        (_, Some(_)) => target.is_plain() && stream.known_len().is_some(),
    }
}

/// Decodes `stream` from its start and stores the content.
fn store_decoded(
    stream: &Stream,
    splice: Splice,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    if target.is_plain() {
        copy_decoded(stream, splice, out, progress)
    } else {
        encode_decoded(stream, splice, target, out, progress)
    }
}

/// Progress of content that is stored unencoded: stored and content bytes are equal.
struct Copied<'a>(&'a dyn Progress);

impl Progress for Copied<'_> {
    fn advance(&self, content: u64, _: u64) {
        self.0.advance(content, content);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// Decodes `stream` and writes its content unencoded.
fn copy_decoded(
    stream: &Stream,
    splice: Splice,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    out.write_all(&splice.head)
        .map_err(livecore_compress::Error::Write)?;
    let decoded = stream.decode_to(out, &Copied(progress))?;
    let mut len = splice.head.len() as u64 + decoded;
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

/// Size of one write of zeros.
const PADDING: usize = 1 << 20;

/// Capacity of the channel from the decoding thread to the encoder.
const PIECES: usize = 4;

/// What to add to a decoded stream before it is stored.
#[derive(Debug, Default)]
struct Splice {
    /// Bytes to put before it.
    head: Vec<u8>,
    /// Minimum length; zeros are appended up to it.
    pad_to: u64,
}

/// Decodes `stream` in order on a separate thread and encodes its content. Uses memory for
/// [`PIECES`] pieces of the decoder, in addition to that of the encoder.
fn encode_decoded(
    stream: &Stream,
    splice: Splice,
    target: &Target,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    std::thread::scope(|scope| {
        let (sender, pieces) = sync_channel(PIECES);
        let splice = &splice;
        let decode = move || {
            let mut sink = |_: u64, piece: &[u8]| {
                // The receiver is gone: the encoder has failed and returns its own error.
                let sent = sender.send(Piece::Bytes(piece.to_vec()));
                sent.map_err(|_| livecore_compress::Error::Cancelled)
            };
            let end = match stream.decode(&mut sink, &NoProgress) {
                Ok(_) => Piece::End,
                Err(error) => Piece::Failed(error.into()),
            };
            // As above: the encoder returns its own error.
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
        // Close the channel so that the decoder does not block.
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
                Err(_) => return Err(io::Error::other("decoding thread panicked")),
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
