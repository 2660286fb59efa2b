//! Search for a seal at the end of a stream, and a check of all its bytes.

use std::io::{self, Write};

use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::bytes::{u32_at, u64_at};
use super::format::*;
use super::part::{self, PartAt};
use super::write::{Parts, Seal};
use crate::frames::Frames;
use crate::table::{Entry, FrameTable, too_long};
use crate::zstd_format::{
    SEEK_ENTRY_LEN, SEEK_FOOTER_LEN, SEEK_TABLE_MAGIC, SEEKABLE_MAGIC, SKIPPABLE_HEADER_LEN,
};
use crate::{Codec, Error, ReadAt};

/// The search for the seal of an uncompressed stream tries offsets that are multiples of this.
const SEARCH_STEP: u64 = 4096;

/// The end of a stream.
pub(crate) enum Tail {
    /// No seal.
    Bare,
    /// A seal or a remnant of one; its start, if the footer is intact.
    Seal {
        codec: Codec,
        start: Result<u64, Error>,
    },
    /// A zstd seek table without a seal before it: that of another program, or of a damaged sealed
    /// stream. The error describes the damage in the second case.
    SeekTable(Error),
}

impl Tail {
    /// The codec of the stream that ends so.
    pub(crate) fn codec(&self) -> Option<Codec> {
        match self {
            Self::Bare => None,
            Self::Seal { codec, .. } => Some(*codec),
            Self::SeekTable(_) => Some(Codec::Zstd),
        }
    }
}

/// A seal, read completely or in part.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The header.
    pub(crate) header: SealHeader,
    /// The attachment, if it matches its digest.
    pub(crate) attachment: Option<Vec<u8>>,
    /// The index, if it is valid and matches its digest.
    pub(crate) table: Option<FrameTable>,
    /// The parts, if they match their digests.
    pub(crate) parts: Vec<PartAt>,
    /// The first damage found.
    pub(crate) damage: Option<Error>,
}

fn broken(region: &str, offset: u64, found: impl ToString, expected: impl ToString) -> Error {
    Error::Broken {
        region: region.into(),
        offset,
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

/// Reads the end of a stream of `len` bytes.
pub(crate) fn tail(source: &dyn ReadAt, len: u64) -> Result<Tail, Error> {
    let mut bytes = [0; GZIP_LAST_LEN];
    let n = len.min(bytes.len() as u64) as usize;
    let bytes = &mut bytes[..n];
    let from = len - n as u64;
    source.read_exact_at(bytes, from).map_err(Error::Read)?;
    let footer_at = |at: usize, codec, after: u64| {
        let footer = bytes.get(at..at + FOOTER_LEN)?;
        is_footer(footer).then(|| Tail::Seal {
            codec,
            start: start_of(footer, codec, len, from + at as u64, after),
        })
    };
    if let Some(found) = n
        .checked_sub(FOOTER_LEN)
        .and_then(|at| footer_at(at, Codec::None, 0))
    {
        return Ok(found);
    }
    if n == GZIP_LAST_LEN {
        let before = GZIP_EMPTY_LEN - 10;
        if let Some(found) = footer_at(before, Codec::Gzip, 0) {
            return Ok(found);
        }
    }
    zstd_tail(source, len, bytes)
}

fn is_footer(footer: &[u8]) -> bool {
    footer[..8] == FOOTER_MAGIC || footer[24..] == END_MAGIC
}

/// Start of the seal with this footer; `after` bytes of the stream follow a zstd seal.
fn start_of(footer: &[u8], codec: Codec, len: u64, at: u64, after: u64) -> Result<u64, Error> {
    let digest = xxh64(&footer[..FOOTER_DIGESTED], 0);
    if footer[..8] != FOOTER_MAGIC
        || footer[24..] != END_MAGIC
        || u64_at(footer, FOOTER_DIGESTED) != digest
    {
        return Err(broken(
            "seal footer",
            at,
            format!("{footer:02x?}"),
            format!("both magic values and the digest {digest:#x}"),
        ));
    }
    let seal_len = u64_at(footer, 8);
    let wrapping = match codec {
        Codec::None => Some(0),
        Codec::Gzip => seal_len
            .div_ceil(GZIP_PIECE as u64)
            .checked_mul(GZIP_EMPTY_LEN as u64)
            .and_then(|n| n.checked_add(GZIP_LAST_LEN as u64)),
        Codec::Zstd => after.checked_add(SKIPPABLE_HEADER_LEN as u64),
    };
    let wrapped = wrapping.and_then(|n| n.checked_add(seal_len));
    wrapped.and_then(|n| len.checked_sub(n)).ok_or_else(|| {
        broken(
            "seal footer",
            at,
            format!("a seal of {seal_len} bytes"),
            format!("a seal that fits in {len} bytes"),
        )
    })
}

fn zstd_tail(source: &dyn ReadAt, len: u64, bytes: &[u8]) -> Result<Tail, Error> {
    let Some((_, footer)) = bytes.split_last_chunk::<SEEK_FOOTER_LEN>() else {
        return Ok(Tail::Bare);
    };
    let frames = u64::from(u32_at(footer, 0));
    let magic = u32_at(footer, 5) == SEEKABLE_MAGIC;
    let table_len =
        (SKIPPABLE_HEADER_LEN + SEEK_FOOTER_LEN) as u64 + frames * SEEK_ENTRY_LEN as u64;
    // The seal's footer directly precedes the seek table.
    let mut before = [0; FOOTER_LEN + 4];
    let at = len
        .checked_sub(table_len)
        .and_then(|at| at.checked_sub(FOOTER_LEN as u64));
    if let Some(at) = at {
        source.read_exact_at(&mut before, at).map_err(Error::Read)?;
        let footer = &before[..FOOTER_LEN];
        if is_footer(footer) && (magic || u32_at(&before, FOOTER_LEN) == SEEK_TABLE_MAGIC) {
            return Ok(Tail::Seal {
                codec: Codec::Zstd,
                start: start_of(footer, Codec::Zstd, len, at, table_len),
            });
        }
    }
    if magic {
        // A seek table of another program, or one with a damaged count.
        return Ok(Tail::SeekTable(broken(
            "seek table",
            len - SEEK_FOOTER_LEN as u64,
            format!("{frames} frames"),
            "a seal before a table of that many frames",
        )));
    }
    Ok(Tail::Bare)
}

/// The cipher of the data of an encrypted stream, from the seal at its end; [`CIPHER_NONE`] if there is
/// no intact seal.
///
/// # Errors
///
/// [`Error::Read`].
pub fn cipher(source: &dyn ReadAt) -> Result<u8, Error> {
    let len = source.size().map_err(Error::Read)?;
    let Tail::Seal {
        codec: Codec::None,
        start: Ok(start),
    } = tail(source, len)?
    else {
        return Ok(CIPHER_NONE);
    };
    let seal = Unwrapped {
        source,
        codec: Codec::None,
        start,
    };
    match parse_header(&seal) {
        Ok(header) => Ok(header.cipher),
        Err(Error::Read(error)) => Err(Error::Read(error)),
        Err(_) => Ok(CIPHER_NONE),
    }
}

/// A remnant of an uncompressed stream's seal.
pub(crate) enum Rest {
    /// Offset of a valid header.
    Header(u64),
    /// Offset of a header that is cut by the end of the stream.
    Cut(u64),
}

/// Searches for the header of an uncompressed stream's seal whose end is cut off or damaged, at
/// multiples of [`SEARCH_STEP`].
pub(crate) fn search(source: &dyn ReadAt, len: u64) -> Result<Option<Rest>, Error> {
    // Space for an attachment and the index entries of frames of at least 768 KiB.
    let reach = 2 * ATTACHMENT_MAX as u64 + (len >> 16);
    let mut at = len / SEARCH_STEP * SEARCH_STEP;
    loop {
        let mut magic = [0; MAGIC.len()];
        let got = source.read_full_at(&mut magic, at).map_err(Error::Read)?;
        if got == magic.len() && magic == MAGIC {
            if len - at < HEADER_LEN_1 as u64 {
                return Ok(Some(Rest::Cut(at)));
            }
            let seal = Unwrapped {
                source,
                codec: Codec::None,
                start: at,
            };
            match parse_header(&seal) {
                Ok(header) if header.seal_start() == Some(at) => return Ok(Some(Rest::Header(at))),
                // The seal of another stream, or the bytes of a magic.
                Ok(_) => {}
                Err(Error::Read(error)) => return Err(Error::Read(error)),
                Err(_) => {}
            }
        }
        match at.checked_sub(SEARCH_STEP) {
            Some(before) if len - before <= reach => at = before,
            _ => return Ok(None),
        }
    }
}

/// A wrapped seal, read as if it were not wrapped.
struct Unwrapped<'a> {
    source: &'a dyn ReadAt,
    codec: Codec,
    start: u64,
}

impl Unwrapped<'_> {
    /// Offset in the stream of byte `at` of the seal, and number of contiguous bytes there.
    fn locate(&self, at: u64) -> Option<(u64, u64)> {
        match self.codec {
            Codec::None => Some((self.start.checked_add(at)?, u64::MAX)),
            Codec::Zstd => {
                let skip = SKIPPABLE_HEADER_LEN as u64;
                Some((self.start.checked_add(skip)?.checked_add(at)?, u64::MAX))
            }
            Codec::Gzip => {
                let (piece, inside) = (at / GZIP_PIECE as u64, at % GZIP_PIECE as u64);
                let head = (GZIP_EMPTY_LEN - 10) as u64;
                let offset = piece
                    .checked_mul((GZIP_PIECE + GZIP_EMPTY_LEN) as u64)?
                    .checked_add(self.start)?
                    .checked_add(head + inside)?;
                Some((offset, GZIP_PIECE as u64 - inside))
            }
        }
    }

    fn read(&self, mut buf: &mut [u8], mut at: u64) -> Result<(), Error> {
        while !buf.is_empty() {
            let (offset, run) = self.locate(at).ok_or_else(too_long)?;
            let n = usize::try_from(run).unwrap_or(usize::MAX).min(buf.len());
            let (now, rest) = std::mem::take(&mut buf).split_at_mut(n);
            self.source.read_exact_at(now, offset).map_err(|e| {
                if e.kind() == io::ErrorKind::UnexpectedEof {
                    broken(
                        "seal",
                        offset,
                        "the end of the stream",
                        format!("{n} bytes"),
                    )
                } else {
                    Error::Read(e)
                }
            })?;
            at += n as u64;
            buf = rest;
        }
        Ok(())
    }
}

/// Reads the seal that begins at `start` of a stream of `len` bytes. Fails if the header is invalid;
/// other damage is part of the result.
pub(crate) fn parse(
    source: &dyn ReadAt,
    codec: Codec,
    start: u64,
    len: u64,
) -> Result<Parsed, Error> {
    let parsed = parse_moved(source, codec, start, len)?;
    let header = parsed.header;
    if header.seal_start() != Some(start) {
        let found = match header.parts_len {
            0 => format!("{:#x} bytes of data", header.stored_len),
            parts => format!(
                "{:#x} bytes of data, {parts:#x} of parts",
                header.stored_len
            ),
        };
        let expected = format!("{start:#x}, the start of the seal");
        return Err(broken("seal header", start, found, expected));
    }
    Ok(parsed)
}

/// As [`parse`], for a seal that need not be at the end of its data: bytes may have been inserted or
/// removed before it.
pub(crate) fn parse_moved(
    source: &dyn ReadAt,
    codec: Codec,
    start: u64,
    len: u64,
) -> Result<Parsed, Error> {
    let seal = Unwrapped {
        source,
        codec,
        start,
    };
    let header = parse_header(&seal)?;
    let mut parsed = Parsed {
        header,
        attachment: None,
        table: None,
        parts: Vec::new(),
        damage: None,
    };
    let mut damage = Vec::new();
    // Salvage searches for the parts of a seal that was moved.
    if header.seal_start() == Some(start) {
        match parse_parts(&seal, &header) {
            Ok(parts) => parsed.parts = parts,
            Err(Error::Read(e)) => return Err(Error::Read(e)),
            Err(e) => damage.push(e),
        }
    }
    match parse_attachment(&seal, &header) {
        Ok(attachment) => parsed.attachment = Some(attachment),
        Err(Error::Read(e)) => return Err(Error::Read(e)),
        Err(e) => damage.push(e),
    }
    match parse_index(&seal, &header) {
        Ok(table) => parsed.table = Some(table),
        Err(Error::Read(e)) => return Err(Error::Read(e)),
        Err(e) => damage.push(e),
    }
    if let (Some(attachment), Some(table)) = (&parsed.attachment, &parsed.table) {
        let mut compare = Compare::new(source, start);
        let seal = Seal {
            codec,
            cipher: header.cipher,
            table,
            attachment,
            parts: Parts {
                count: header.parts,
                len: header.parts_len,
                digest: header.parts_digest,
            },
            version: header.version,
        };
        let end = match seal.write(&mut compare) {
            Ok(written) => start + written,
            Err(Error::Write(e)) => return Err(Error::Read(e)),
            Err(error) => return Err(error),
        };
        damage.extend(compare.error);
        if damage.is_empty() && end != len {
            damage.push(broken(
                "seal",
                start,
                format!("the end of the stream at {len:#x}"),
                format!("its end at {end:#x}"),
            ));
        }
    }
    parsed.damage = damage.into_iter().next();
    Ok(parsed)
}

fn parse_header(seal: &Unwrapped<'_>) -> Result<SealHeader, Error> {
    let mut bytes = [0; HEADER_LEN];
    seal.read(&mut bytes[..HEADER_LEN_1], 0)?;
    let start = seal.start;
    let wrong =
        |found: String, expected: String| Err(broken("seal header", start, found, expected));
    let digest = xxh64(&bytes[..HEADER_DIGESTED], 0);
    if bytes[..8] != MAGIC || u64_at(&bytes, HEADER_DIGESTED) != digest {
        return wrong(
            format!("{:02x?}", &bytes[..8]),
            format!("{MAGIC:02x?} and a matching digest"),
        );
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    match version {
        VERSION_1 => {}
        VERSION => {
            seal.read(&mut bytes, 0)?;
            let digest = xxh64(&bytes[..HEADER_DIGESTED_2], 0);
            if u64_at(&bytes, HEADER_DIGESTED_2) != digest || bytes[88..96] != [0; 8] {
                return wrong(
                    format!("{:02x?}", &bytes[HEADER_LEN_1..]),
                    format!("the digest {digest:#x}"),
                );
            }
        }
        version => {
            let known = format!("version {VERSION_1} or {VERSION}");
            return wrong(format!("version {version}"), known);
        }
    }
    let cipher = bytes[11];
    // Only uncompressed streams with parts are encrypted: the key is one of the parts.
    let known = match (seal.codec, version) {
        (Codec::None, VERSION) => CIPHER_CHACHA20,
        _ => CIPHER_NONE,
    };
    if cipher > known {
        return wrong(
            format!("cipher {cipher}"),
            format!("at most {known}, for this codec and version"),
        );
    }
    let header = SealHeader {
        version,
        codec: bytes[10],
        cipher,
        frame_size: u32_at(&bytes, 12),
        content_len: u64_at(&bytes, 16),
        stored_len: u64_at(&bytes, 24),
        frames: u64_at(&bytes, 32),
        attachment_len: u32_at(&bytes, 40),
        parts: u32_at(&bytes, 44),
        attachment_digest: u64_at(&bytes, 48),
        index_digest: u64_at(&bytes, 56),
        parts_len: u64_at(&bytes, 72),
        parts_digest: u64_at(&bytes, 80),
    };
    let codec = match seal.codec {
        Codec::None => CODEC_NONE,
        Codec::Gzip => CODEC_GZIP,
        Codec::Zstd => CODEC_ZSTD,
    };
    let parts = version == VERSION_1 && header.parts != 0;
    if header.codec != codec || parts {
        return wrong(
            format!("codec {}, reserved {}", bytes[10], header.parts),
            format!("codec {codec}, reserved 0"),
        );
    }
    let size = header.frame_size;
    if size == 0 || size > FRAME_MAX || !size.is_multiple_of(FRAME_UNIT) {
        return wrong(
            format!("frames of {size} bytes"),
            format!("a multiple of {FRAME_UNIT} up to {FRAME_MAX}"),
        );
    }
    if header.frames != header.content_len.div_ceil(size.into()) {
        return wrong(
            format!("{} frames", header.frames),
            format!(
                "{}, for {} bytes in frames of {size}",
                header.content_len.div_ceil(size.into()),
                header.content_len
            ),
        );
    }
    if header.attachment_len as usize > ATTACHMENT_MAX {
        return wrong(
            format!("an attachment of {} bytes", header.attachment_len),
            format!("at most {ATTACHMENT_MAX} bytes"),
        );
    }
    Ok(header)
}

fn parse_attachment(seal: &Unwrapped<'_>, header: &SealHeader) -> Result<Vec<u8>, Error> {
    // ATTACHMENT_MAX at most.
    let mut attachment = vec![0; header.attachment_len as usize];
    seal.read(&mut attachment, header.header_len() as u64)?;
    let digest = xxh64(&attachment, 0);
    if digest != header.attachment_digest {
        return Err(broken(
            "seal attachment",
            seal.start + header.header_len() as u64,
            format!("digest {digest:#x}"),
            format!("{:#x}", header.attachment_digest),
        ));
    }
    Ok(attachment)
}

/// Parses the parts before a seal that is at the offset in its header.
fn parse_parts(seal: &Unwrapped<'_>, header: &SealHeader) -> Result<Vec<PartAt>, Error> {
    let (start, len) = (header.stored_len, header.parts_len);
    let mut digest = Xxh64::new(0);
    let mut bytes = vec![0; 64 << 10];
    let mut at = start;
    // The parts precede the seal, so they are within the stream.
    while at < seal.start {
        let n = (seal.start - at).min(bytes.len() as u64) as usize;
        let piece = &mut bytes[..n];
        seal.source.read_exact_at(piece, at).map_err(Error::Read)?;
        digest.update(piece);
        at += n as u64;
    }
    let (found, expected) = (digest.digest(), header.parts_digest);
    if len > 0 && found != expected || len == 0 && (expected, header.parts) != (0, 0) {
        return Err(broken(
            "parts",
            start,
            format!("digest {found:#x}"),
            format!("{expected:#x}"),
        ));
    }
    part::parse_all(seal.source, seal.codec, start, len, header.parts)
}

fn parse_index(seal: &Unwrapped<'_>, header: &SealHeader) -> Result<FrameTable, Error> {
    let mut table = FrameTable::new(header.frame_size);
    let mut digest = Xxh64::new(0);
    let index_at = header.header_len() as u64 + u64::from(header.attachment_len);
    let mut left = header.content_len;
    let mut done = 0;
    let mut bytes = vec![0; ENTRY_LEN * 4096];
    let wrong = |found: String, expected: String| {
        let at = seal.locate(index_at).map_or(seal.start, |(at, _)| at);
        broken("seal index", at, found, expected)
    };
    while done < header.frames {
        let count = (header.frames - done).min(4096);
        let piece = &mut bytes[..count as usize * ENTRY_LEN];
        // No overflow: the entries before were read from the stream.
        seal.read(piece, index_at + done * ENTRY_LEN as u64)?;
        digest.update(piece);
        for (number, bytes) in (done..).zip(piece.chunks_exact(ENTRY_LEN)) {
            let content_len = left.min(header.frame_size.into()) as u32;
            left -= u64::from(content_len);
            let entry = Entry {
                stored_len: u32_at(bytes, 0),
                content_check: u32_at(bytes, 4),
                stored_check: u32_at(bytes, 8),
            };
            let bound = longest_frame(seal.codec, content_len);
            let fits = entry.stored_len <= bound
                && entry.stored_len > 0
                && (seal.codec != Codec::None || entry.stored_len == content_len);
            if !fits {
                return Err(wrong(
                    format!(
                        "frame {number} of {} bytes for {content_len} bytes of content",
                        entry.stored_len
                    ),
                    format!("1 to {bound} bytes"),
                ));
            }
            table.push(content_len, entry).ok_or_else(too_long)?;
        }
        done += count;
    }
    if digest.digest() != header.index_digest {
        return Err(wrong(
            format!("digest {:#x}", digest.digest()),
            format!("{:#x}", header.index_digest),
        ));
    }
    if table.stored_len() != header.stored_len {
        return Err(wrong(
            format!("{:#x} bytes of frames", table.stored_len()),
            format!("{:#x}, from the header", header.stored_len),
        ));
    }
    Ok(table)
}

/// Start of the seal after data that ends at `at`: the end of the parts, if there are any.
pub(crate) fn seal_after(
    source: &dyn ReadAt,
    codec: Codec,
    at: u64,
    len: u64,
) -> Result<u64, Error> {
    let inside = match codec {
        Codec::None => 0,
        Codec::Gzip => GZIP_SUBFIELD_AT,
        Codec::Zstd => SKIPPABLE_HEADER_LEN as u64,
    };
    for found in Frames::starting(source, codec, at, len) {
        let found = match found {
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(_) => break,
            Ok(found) => found,
        };
        let mut magic = [0; PART_MAGIC.len()];
        source
            .read_full_at(&mut magic, found.offset + inside)
            .map_err(Error::Read)?;
        if magic != PART_MAGIC {
            return Ok(found.offset);
        }
    }
    Ok(at)
}

/// Maximum stored size of a frame with `content_len` bytes of content.
pub(crate) fn longest_frame(codec: Codec, content_len: u32) -> u32 {
    match codec {
        Codec::None => content_len,
        // At most FRAME_MAX, so the sum fits in 32 bits.
        Codec::Gzip | Codec::Zstd => content_len + content_len / 64 + 4096,
    }
}

/// A writer that compares its input with the stream.
struct Compare<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    buffer: Vec<u8>,
    error: Option<Error>,
}

impl<'a> Compare<'a> {
    fn new(source: &'a dyn ReadAt, at: u64) -> Self {
        Self {
            source,
            at,
            buffer: Vec::new(),
            error: None,
        }
    }
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.resize(bytes.len(), 0);
        let got = self.source.read_full_at(&mut self.buffer, self.at)?;
        let found = &self.buffer[..got];
        if self.error.is_none() && *found != *bytes {
            let same = found.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            let hex = |from: &[u8]| format!("{:02x?}", &from[same..from.len().min(same + 8)]);
            self.error = Some(broken(
                "seal",
                self.at + same as u64,
                hex(found),
                hex(bytes),
            ));
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
