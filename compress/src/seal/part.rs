//! Parts, between data and seal: a copy of the content's beginning, and lists.

use std::io::{self, Write};

use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::bytes::{u32_at, u64_at};
use super::format::*;
use super::wrap::{empty_member_len, write_empty_member};
use crate::zstd_format::{SKIPPABLE_HEADER_LEN, invalid_zstd};
use crate::{Codec, Error, ReadAt};

/// The level of the copy's frames.
const LEVEL: i32 = 3;

/// A part to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    kind: u32,
    offset: u64,
    content_len: u32,
    codec: u8,
    bytes: Vec<u8>,
}

impl Part {
    fn header(&self, at: u64) -> [u8; PART_HEADER_LEN] {
        let mut header = [0; PART_HEADER_LEN];
        header[..8].copy_from_slice(&PART_MAGIC);
        header[8..12].copy_from_slice(&self.kind.to_le_bytes());
        // PART_MAX at most.
        header[12..16].copy_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.offset.to_le_bytes());
        header[24..28].copy_from_slice(&self.content_len.to_le_bytes());
        header[28] = self.codec;
        header[32..40].copy_from_slice(&at.to_le_bytes());
        header[40..48].copy_from_slice(&xxh64(&self.bytes, 0).to_le_bytes());
        let digest = xxh64(&header[..PART_DIGESTED], 0);
        header[PART_DIGESTED..].copy_from_slice(&digest.to_le_bytes());
        header
    }

    fn len(&self) -> usize {
        PART_HEADER_LEN + self.bytes.len()
    }
}

/// The parts of a list.
pub(crate) fn list(kind: u32, bytes: &[u8]) -> Vec<Part> {
    let pieces = bytes.chunks(PART_MAX - PART_HEADER_LEN);
    let mut offset = 0;
    let part = |piece: &[u8]| {
        let part = Part {
            kind,
            offset,
            content_len: piece.len() as u32, // PART_MAX at most
            codec: CODEC_NONE,
            bytes: piece.to_vec(),
        };
        offset += piece.len() as u64;
        part
    };
    pieces.map(part).collect()
}

/// Makes parts from the first bytes of the content.
pub(crate) struct Copier {
    /// Number of bytes still to copy.
    wanted: u64,
    done: u64,
    piece: Vec<u8>,
    context: Option<CCtx<'static>>,
    parts: Vec<Part>,
}

impl Copier {
    /// Copies the first `wanted` bytes.
    pub(crate) fn new(wanted: u64) -> Self {
        Self {
            wanted,
            done: 0,
            piece: Vec::new(),
            context: None,
            parts: Vec::new(),
        }
    }

    /// Receives the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while self.wanted > 0 && !bytes.is_empty() {
            let left = (PART_COPY_LEN - self.piece.len()) as u64;
            let n = left.min(self.wanted).min(bytes.len() as u64) as usize;
            let (now, rest) = bytes.split_at(n);
            self.piece.extend_from_slice(now);
            self.wanted -= n as u64;
            bytes = rest;
            if self.piece.len() == PART_COPY_LEN {
                self.close()?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let refused = |code| Error::Options(format!("zstd: {}", zstd_safe::get_error_name(code)));
        let context = match &mut self.context {
            Some(context) => context,
            none => {
                let mut context = CCtx::create();
                let level = CParameter::CompressionLevel(LEVEL);
                context.set_parameter(level).map_err(refused)?;
                none.insert(context)
            }
        };
        let mut stored = Vec::with_capacity(zstd_safe::compress_bound(self.piece.len()));
        context
            .compress2(&mut stored, &self.piece)
            .map_err(refused)?;
        self.parts.push(Part {
            kind: PART_COPY,
            offset: self.done,
            content_len: self.piece.len() as u32, // PART_COPY_LEN at most
            codec: CODEC_ZSTD,
            bytes: stored,
        });
        self.done += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    /// Returns the parts.
    pub(crate) fn finish(mut self) -> Result<Vec<Part>, Error> {
        self.close()?;
        Ok(self.parts)
    }
}

/// Writes `parts`, wrapped for `codec`, at offset `start` of a stream.
pub(crate) fn write(
    codec: Codec,
    start: u64,
    parts: &[Part],
    out: &mut dyn Write,
) -> Result<(), Error> {
    if parts.is_empty() {
        return Ok(());
    }
    let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
    let frame_len = u32::try_from(len).map_err(|_| Error::Limit {
        what: "the parts of a sealed stream".into(),
        needed: len,
        limit: u32::MAX.into(),
    })?;
    write_wrapped(codec, start, parts, frame_len, out).map_err(Error::Write)
}

fn write_wrapped(
    codec: Codec,
    start: u64,
    parts: &[Part],
    frame_len: u32,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut at = start;
    if codec == Codec::Zstd {
        out.write_all(&ZSTD_SEAL_MAGIC.to_le_bytes())?;
        out.write_all(&frame_len.to_le_bytes())?;
        at += SKIPPABLE_HEADER_LEN as u64;
    }
    for part in parts {
        if codec == Codec::Gzip {
            let header = part.header(at + GZIP_SUBFIELD_AT);
            let whole = [&header[..], &part.bytes].concat();
            write_empty_member(out, GZIP_SEAL, &whole)?;
            at += empty_member_len(whole.len());
        } else {
            out.write_all(&part.header(at))?;
            out.write_all(&part.bytes)?;
            at += part.len() as u64;
        }
    }
    if codec == Codec::None {
        let pad = at.next_multiple_of(PLAIN_UNIT) - at;
        out.write_all(&vec![0; pad as usize])?; // less than a page
    }
    Ok(())
}

/// A part in a stream, as its header describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartAt {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) content_len: u32,
    codec: u8,
    /// Offset and size of its bytes in the stream.
    at: u64,
    stored_len: u32,
    digest: u64,
}

impl PartAt {
    /// Parses the header at `at` of a stream; `None` if it is invalid or states another offset.
    /// `shift` is the number of bytes inserted before it, modulo 2^64.
    pub(crate) fn parse(header: &[u8; PART_HEADER_LEN], at: u64, shift: u64) -> Option<Self> {
        let digest = xxh64(&header[..PART_DIGESTED], 0);
        let part = Self {
            kind: u32_at(header, 8),
            stored_len: u32_at(header, 12),
            offset: u64_at(header, 16),
            content_len: u32_at(header, 24),
            codec: header[28],
            at: at.checked_add(PART_HEADER_LEN as u64)?,
            digest: u64_at(header, 40),
        };
        let fits = part.stored_len as usize <= PART_MAX - PART_HEADER_LEN
            && part.content_len as usize <= PART_MAX
            && part.offset.checked_add(part.content_len.into()).is_some();
        let right = header[..8] == PART_MAGIC
            && u64_at(header, PART_DIGESTED) == digest
            && header[29..32] == [0; 3]
            && u64_at(header, 32).wrapping_add(shift) == at;
        (right && fits).then_some(part)
    }

    /// Offset of its header in the stream.
    pub(crate) fn start(&self) -> u64 {
        self.at - PART_HEADER_LEN as u64
    }

    /// Its end in the stream.
    pub(crate) fn end(&self) -> u64 {
        self.at + u64::from(self.stored_len)
    }

    /// Reads its content.
    pub(crate) fn read(&self, source: &dyn ReadAt) -> Result<Vec<u8>, Error> {
        let wrong = |found: String, expected: String| Error::Broken {
            region: "part".into(),
            offset: self.at,
            found,
            expected,
        };
        // PART_MAX at most.
        let mut stored = vec![0; self.stored_len as usize];
        let got = source
            .read_full_at(&mut stored, self.at)
            .map_err(Error::Read)?;
        let digest = xxh64(&stored[..got], 0);
        if got < stored.len() || digest != self.digest {
            let found = format!("{got} bytes with digest {digest:#x}");
            return Err(wrong(found, format!("digest {:#x}", self.digest)));
        }
        let len = self.content_len as usize;
        match self.codec {
            CODEC_NONE if stored.len() == len => Ok(stored),
            CODEC_ZSTD => {
                let mut content = vec![0; len];
                match DCtx::create().decompress(&mut content[..], &stored) {
                    Ok(got) if got == len => Ok(content),
                    Ok(got) => Err(wrong(
                        format!("{got} bytes of content"),
                        format!("{len} bytes of content"),
                    )),
                    Err(code) => Err(wrong(invalid_zstd(code), format!("{len} bytes of content"))),
                }
            }
            codec => Err(wrong(
                format!("codec {codec} for {len} bytes"),
                format!("codec {CODEC_ZSTD}, or {CODEC_NONE} and equal sizes"),
            )),
        }
    }
}

/// Parses the `count` parts in `len` bytes at `start`.
pub(crate) fn parse_all(
    source: &dyn ReadAt,
    codec: Codec,
    start: u64,
    len: u64,
    count: u32,
) -> Result<Vec<PartAt>, Error> {
    let end = start + len; // the caller has checked that the stream contains them
    let mut parts = Vec::new();
    let mut at = start;
    if codec == Codec::Zstd && count > 0 {
        at += SKIPPABLE_HEADER_LEN as u64;
    }
    for number in 0..count {
        if codec == Codec::Gzip {
            at += GZIP_SUBFIELD_AT;
        }
        let wrong = |found: String| Error::Broken {
            region: format!("part {number}"),
            offset: at,
            found,
            expected: "a part of the seal".into(),
        };
        let mut header = [0; PART_HEADER_LEN];
        let got = source.read_full_at(&mut header, at).map_err(Error::Read)?;
        let part = PartAt::parse(&header, at, 0).filter(|part| part.end() <= end);
        let Some(part) = part.filter(|_| got == header.len()) else {
            return Err(wrong(format!("{:02x?}", &header[..8])));
        };
        at = part.end();
        if codec == Codec::Gzip {
            at += GZIP_EMPTY_LEN as u64 - GZIP_SUBFIELD_AT;
        }
        parts.push(part);
    }
    if codec == Codec::None && count > 0 {
        at = at.next_multiple_of(PLAIN_UNIT);
    }
    if at != end {
        return Err(Error::Broken {
            region: "parts".into(),
            offset: start,
            found: format!("parts that end at {at:#x}"),
            expected: format!("{end:#x}, from the header"),
        });
    }
    Ok(parts)
}

/// Number of bytes to search at a time.
const PIECE: usize = 1 << 20;
/// Maximum number of parts to find, for 32 GiB of content.
const FOUND_MAX: usize = 1 << 20;

/// The valid parts between `from` and `to` of a damaged stream, by offset. `shift` is the number of
/// bytes inserted before them, modulo 2^64.
pub(crate) fn search(
    source: &dyn ReadAt,
    from: u64,
    to: u64,
    shift: u64,
) -> Result<Vec<PartAt>, Error> {
    let mut parts: Vec<PartAt> = Vec::new();
    let mut bytes = vec![0; PIECE];
    let (mut at, mut end) = (from, from);
    while at < to {
        let want = (to - at).min(PIECE as u64) as usize;
        let got = source
            .read_full_at(&mut bytes[..want], at)
            .map_err(Error::Read)?;
        let hits = bytes[..got]
            .windows(PART_MAGIC.len())
            .enumerate()
            .filter(|(_, window)| *window == PART_MAGIC);
        for (hit, _) in hits {
            let offset = at + hit as u64;
            // Parts do not overlap.
            if offset < end || parts.len() == FOUND_MAX {
                continue;
            }
            let mut header = [0; PART_HEADER_LEN];
            let len = source
                .read_full_at(&mut header, offset)
                .map_err(Error::Read)?;
            let part = PartAt::parse(&header, offset, shift).filter(|_| len == header.len());
            let Some(part) = part else { continue };
            match part.read(source) {
                Ok(_) => {
                    end = part.end();
                    parts.push(part);
                }
                Err(Error::Read(error)) => return Err(Error::Read(error)),
                Err(_) => {}
            }
        }
        if got < want || got < PART_MAGIC.len() {
            break;
        }
        at += (got - (PART_MAGIC.len() - 1)) as u64;
        if want < PIECE {
            break;
        }
    }
    Ok(parts)
}

/// Reads the list of `kind` from its parts; `None` if there is none.
pub(crate) fn read_list(
    source: &dyn ReadAt,
    parts: &[PartAt],
    kind: u32,
    limit: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let of_kind = || parts.iter().filter(|part| part.kind == kind);
    let len: u64 = of_kind().map(|part| u64::from(part.content_len)).sum();
    if of_kind().next().is_none() {
        return Ok(None);
    }
    let memory = || Error::Memory {
        what: format!("the seal's list of kind {kind}"),
        needed: len,
        limit,
    };
    if len > limit {
        return Err(memory());
    }
    let mut list = Vec::new();
    // On overflow the reservation fails.
    list.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX))
        .map_err(|_| memory())?;
    for part in of_kind() {
        if part.offset != list.len() as u64 {
            return Err(Error::Broken {
                region: "part".into(),
                offset: part.at,
                found: format!("a piece of the list at {:#x}", part.offset),
                expected: format!("{:#x}, the end of the previous piece", list.len()),
            });
        }
        list.extend(part.read(source)?);
    }
    Ok(Some(list))
}
