//! Finding a seal at the end of a stream, and checking every byte of it.

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

/// What the lengths of uncompressed contents are multiples of, when their seals are looked for.
const SEARCH_STEP: u64 = 4096;

/// What the end of a stream says.
pub(crate) enum Tail {
    /// Nothing that looks like a seal.
    Bare,
    /// There is a seal, or what is left of one. Where it seems to begin, if that can be told.
    Seal {
        codec: Codec,
        start: Result<u64, Error>,
    },
    /// A zstd seek table that no seal of ours is before: somebody's, or ours and damaged. The
    /// damage if it is ours.
    SeekTable(Error),
}

/// A seal that has been read, all or in part.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// What its header says.
    pub(crate) header: SealHeader,
    /// The attachment, if it is what its digest says.
    pub(crate) attachment: Option<Vec<u8>>,
    /// The index, if it is what its digest says, and makes sense.
    pub(crate) table: Option<FrameTable>,
    /// The parts, as far as they are what their digests say.
    pub(crate) parts: Vec<PartAt>,
    /// The first thing that is wrong.
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

/// Looks at the end of a stream of `len` bytes.
pub(crate) fn tail(source: &dyn ReadAt, len: u64) -> Result<Tail, Error> {
    let mut bytes = [0; GZIP_LAST_LEN];
    let n = len.min(bytes.len() as u64) as usize;
    let bytes = &mut bytes[..n];
    let from = len - n as u64;
    source.read_exact_at(bytes, from).map_err(Error::Read)?;
    let footer_at = |at: usize, codec, behind: u64| {
        let footer = bytes.get(at..at + FOOTER_LEN)?;
        is_footer(footer).then(|| Tail::Seal {
            codec,
            start: start_of(footer, codec, len, from + at as u64, behind),
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

/// Where the seal with this footer begins; `behind` bytes of the stream follow a zstd seal.
fn start_of(footer: &[u8], codec: Codec, len: u64, at: u64, behind: u64) -> Result<u64, Error> {
    let digest = xxh64(&footer[..FOOTER_DIGESTED], 0);
    if footer[..8] != FOOTER_MAGIC
        || footer[24..] != END_MAGIC
        || u64_at(footer, FOOTER_DIGESTED) != digest
    {
        return Err(broken(
            "seal footer",
            at,
            format!("{footer:02x?}"),
            format!("two magics and the digest {digest:#x}"),
        ));
    }
    let seal_len = u64_at(footer, 8);
    let wrapping = match codec {
        Codec::None => Some(0),
        Codec::Gzip => seal_len
            .div_ceil(GZIP_PIECE as u64)
            .checked_mul(GZIP_EMPTY_LEN as u64)
            .and_then(|n| n.checked_add(GZIP_LAST_LEN as u64)),
        Codec::Zstd => behind.checked_add(SKIPPABLE_HEADER_LEN as u64),
    };
    let wrapped = wrapping.and_then(|n| n.checked_add(seal_len));
    wrapped.and_then(|n| len.checked_sub(n)).ok_or_else(|| {
        broken(
            "seal footer",
            at,
            format!("a seal of {seal_len} bytes"),
            format!("one that fits into {len}"),
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
    // The seal's footer is right before the seek table.
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
        // Somebody's seek table, or ours with a wrong count.
        return Ok(Tail::SeekTable(broken(
            "seek table",
            len - SEEK_FOOTER_LEN as u64,
            format!("{frames} frames"),
            "a seal before the table of so many",
        )));
    }
    Ok(Tail::Bare)
}

/// What is left of an uncompressed stream's seal.
pub(crate) enum Rest {
    /// A good header begins here.
    Header(u64),
    /// A header begins here, and the stream ends in it.
    Cut(u64),
}

/// Looks for the header of an uncompressed stream's seal whose end is cut off or damaged. It is
/// found where the content's length is a multiple of [`SEARCH_STEP`].
pub(crate) fn search(source: &dyn ReadAt, len: u64) -> Result<Option<Rest>, Error> {
    // An attachment and the entries of frames of 768 KiB and more.
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
                // Somebody else's.
                Ok(_) => {}
                Err(Error::Read(error)) => return Err(Error::Read(error)),
                // Bytes that look like a magic.
                Err(_) => {}
            }
        }
        match at.checked_sub(SEARCH_STEP) {
            Some(before) if len - before <= reach => at = before,
            _ => return Ok(None),
        }
    }
}

/// The bytes of a wrapped seal, as if it were not wrapped.
struct Unwrapped<'a> {
    source: &'a dyn ReadAt,
    codec: Codec,
    start: u64,
}

impl Unwrapped<'_> {
    /// Where byte `at` of the seal lies in the stream, and how many follow it there.
    fn place(&self, at: u64) -> Option<(u64, u64)> {
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
            let (offset, run) = self.place(at).ok_or_else(too_long)?;
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

/// Reads the seal that begins at `start` of a stream of `len` bytes. An error means that there is
/// no header one could believe; damage behind the header is in the answer.
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
        let expected = format!("{start:#x}, where the seal begins");
        return Err(broken("seal header", start, found, expected));
    }
    Ok(parsed)
}

/// The same of a seal that need not lie where its data ends: bytes may have come in before it, or
/// gone.
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
    // Parts of a seal that was moved are looked for by who wants them.
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
            "a magic and a digest that holds".into(),
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
    if version == VERSION && bytes[11] != 0 {
        return wrong(
            format!("cipher {}", bytes[11]),
            "a file that is not encrypted".into(),
        );
    }
    let header = SealHeader {
        version,
        codec: bytes[10],
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
    if header.codec != codec || bytes[11] != 0 || parts {
        return wrong(
            format!(
                "codec {}, reserved {} and {}",
                bytes[10], bytes[11], header.parts
            ),
            format!("codec {codec}, reserved 0 and 0"),
        );
    }
    let size = header.frame_size;
    if size == 0 || size > FRAME_MAX || !size.is_multiple_of(FRAME_UNIT) {
        return wrong(
            format!("frames of {size} bytes"),
            format!("up to {FRAME_MAX}"),
        );
    }
    if header.frames != header.content_len.div_ceil(size.into()) {
        return wrong(
            format!("{} frames", header.frames),
            format!("{} bytes in frames of {size}", header.content_len),
        );
    }
    if header.attachment_len as usize > ATTACHMENT_MAX {
        return wrong(
            format!("an attachment of {} bytes", header.attachment_len),
            format!("{ATTACHMENT_MAX} at most"),
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

/// The parts before a seal that lies where its header says.
fn parse_parts(seal: &Unwrapped<'_>, header: &SealHeader) -> Result<Vec<PartAt>, Error> {
    let (start, len) = (header.stored_len, header.parts_len);
    let mut digest = Xxh64::new(0);
    let mut bytes = vec![0; 64 << 10];
    let mut at = start;
    // They lie before the seal, which is in the stream.
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
        let at = seal.place(index_at).map_or(seal.start, |(at, _)| at);
        broken("seal index", at, found, expected)
    };
    while done < header.frames {
        let count = (header.frames - done).min(4096);
        let piece = &mut bytes[..count as usize * ENTRY_LEN];
        // Neither overflows: the table so far has as many entries, and comes from the stream.
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
                        "frame {number} of {} bytes for {content_len}",
                        entry.stored_len
                    ),
                    format!("1 to {bound}"),
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
            format!("{:#x}, as the header says", header.stored_len),
        ));
    }
    Ok(table)
}

/// Where the seal behind data that ends at `at` begins: behind the parts, if there are some.
pub(crate) fn behind_parts(
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

/// No frame of ours is longer than its content and one 64th and a header.
pub(crate) fn longest_frame(codec: Codec, content_len: u32) -> u32 {
    match codec {
        Codec::None => content_len,
        // FRAME_MAX at most, far from the end of 32 bits.
        Codec::Gzip | Codec::Zstd => content_len + content_len / 64 + 4096,
    }
}

/// Takes what should be there, and compares it with what is.
struct Compare<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    there: Vec<u8>,
    error: Option<Error>,
}

impl<'a> Compare<'a> {
    fn new(source: &'a dyn ReadAt, at: u64) -> Self {
        Self {
            source,
            at,
            there: Vec::new(),
            error: None,
        }
    }
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.there.resize(bytes.len(), 0);
        let got = self.source.read_full_at(&mut self.there, self.at)?;
        let there = &self.there[..got];
        if self.error.is_none() && *there != *bytes {
            let same = there.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            let hex = |from: &[u8]| format!("{:02x?}", &from[same..from.len().min(same + 8)]);
            self.error = Some(broken(
                "seal",
                self.at + same as u64,
                hex(there),
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
