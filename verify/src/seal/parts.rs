//! The parts of a sealed file, between data and seal: their wrapping, digests and content. The copy
//! of the content's beginning is compared with the frames.

use std::ops::Range;

use ::zstd::zstd_safe::{DCtx, get_error_name};
use livecore_compress::Codec;
use livecore_compress::seal::format::*;
use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::wrapping::{EMPTY_BODY, member_head};
use crate::codec::{Walked, replay};
use crate::finding::{Finding, Location, Region, Sink};
use crate::input::{Input, number};
use crate::receipt::add_runs;
use crate::report::Stop;
use crate::rules;

/// Number of bytes digested at a time.
const STEP: usize = 1 << 16;

/// The content of the parts.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Number of unproven ranges.
    pub(super) ranges: u64,
    /// The list of excluded pages.
    pub(super) excluded: Vec<[u64; 3]>,
    /// The key block, and the offset of its part.
    pub(super) key: Option<(Vec<u8>, u64)>,
}

/// One valid part.
struct Part {
    kind: u32,
    offset: u64,
    content_len: u32,
    codec: u8,
    bytes: Vec<u8>,
}

/// Checks the parts in the range `at` of the file, which the seal's `header` describes.
pub(super) fn check(
    input: &Input,
    codec: Codec,
    at: Range<u64>,
    header: &[u8],
    walked: &Walked,
    sink: &mut Sink,
) -> Result<Parts, Stop> {
    let place = Location::file("parts", at.start);
    let (count, len) = (number(header, 44, 4), number(header, 72, 8));
    let found = at.end.saturating_sub(at.start);
    let mut sound = sink.check(&rules::SEAL_PARTS, found == len, &place, |f| {
        f.found(format!("{found} bytes between data and seal"))
            .expected(format!("{len}, from the seal's header"))
    });
    let digest = digest(input, &at)?;
    let stated = number(header, 80, 8);
    sound &= sink.check(&rules::SEAL_PARTS, digest == stated, &place, |f| {
        f.found(format!("bytes with digest {digest:#018x}"))
            .expected(format!("{stated:#018x}"))
    });
    let mut parts = Parts::default();
    if !sound {
        return Ok(parts);
    }
    let mut copy = Copy::default();
    let mut walk = Walk {
        input,
        codec,
        at: at.start,
        end: at.end,
        before: (0, 0),
    };
    let content = number(header, 16, 8);
    let mut last_range = 0;
    for n in 0..count {
        let part_at = walk.at;
        let place = Location::file(Region::Nth("part", n), part_at);
        let part = match walk.next()? {
            Ok(part) => part,
            Err(why) => {
                sink.broken(&rules::SEAL_PARTS, &place, |f| {
                    f.found(why).expected("a valid part")
                });
                return Ok(parts);
            }
        };
        let fault = match part.kind {
            PART_COPY => copy.add(&part),
            PART_UNPROVEN => parts.add(&part, &mut last_range, content),
            PART_EXCLUDED => match part.codec == CODEC_NONE {
                true => add_runs(&mut parts.excluded, part.offset, &part.bytes),
                false => Some("a compressed list of excluded pages".into()),
            },
            PART_KEYS => parts.add_key(part, part_at),
            _ => None,
        };
        sink.check(&rules::SEAL_PARTS, fault.is_none(), &place, |f| {
            f.found(fault.unwrap_or_default())
                .expected("the content that docs/sealed.md describes")
        });
    }
    let rest = walk.rest()?;
    let place = Location::file("after the parts", walk.at);
    sink.check(&rules::SEAL_PARTS, rest.is_none(), &place, |f| {
        f.found(rest.unwrap_or_default())
            .expected(format!("no bytes after {count} parts"))
    });
    if walked.whole {
        copy.compare(input, codec, walked, sink)?;
    }
    Ok(parts)
}

/// The digest of the bytes in `range` of the file.
fn digest(input: &Input, range: &Range<u64>) -> Result<u64, Stop> {
    let (mut digest, mut at) = (Xxh64::new(0), range.start);
    while at < range.end {
        let want = usize::try_from(range.end - at).unwrap_or(STEP).min(STEP);
        let bytes = input.up_to(at, want)?;
        if bytes.is_empty() {
            break;
        }
        digest.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(digest.digest())
}

/// Reads the parts in order, without the codec's wrapping.
struct Walk<'a> {
    input: &'a Input,
    codec: Codec,
    at: u64,
    end: u64,
    /// Kind and offset of the previous part.
    before: (u32, u64),
}

impl Walk<'_> {
    /// The next part, or a description of what is wrong with it.
    fn next(&mut self) -> Result<Result<Part, String>, Stop> {
        let start = self.at;
        if self.codec == Codec::Zstd && self.before == (0, 0) {
            let head = self.input.up_to(start, 8)?;
            let whole = number(&head, 4, 4) == self.end.saturating_sub(start + 8);
            if number(&head, 0, 4) != u64::from(ZSTD_SEAL_MAGIC) || !whole {
                return Ok(Err("parts without a skippable frame around them".into()));
            }
            self.at += 8;
        }
        if self.codec == Codec::Gzip {
            self.at += GZIP_SUBFIELD_AT;
        }
        let head_at = self.at;
        let head = self.input.up_to(head_at, PART_HEADER_LEN)?;
        let digest = head.get(..PART_DIGESTED).map(|bytes| xxh64(bytes, 0));
        if !head.starts_with(&PART_MAGIC) || digest != Some(number(&head, PART_DIGESTED, 8)) {
            return Ok(Err("a header with a wrong magic or digest".into()));
        }
        let len = number(&head, 12, 4) as usize;
        if PART_HEADER_LEN + len > PART_MAX || number(&head, 32, 8) != head_at {
            let stated = number(&head, 32, 8);
            return Ok(Err(format!(
                "a part of {len} bytes that states the offset {stated:#x}"
            )));
        }
        let bytes = self.input.up_to(head_at + PART_HEADER_LEN as u64, len)?;
        let end = head_at + (PART_HEADER_LEN + len) as u64;
        if bytes.len() < len || xxh64(&bytes, 0) != number(&head, 40, 8) {
            return Ok(Err("content with a wrong digest".into()));
        }
        if head[29..32] != [0; 3] {
            return Ok(Err("nonzero reserved bytes".into()));
        }
        self.at = end;
        if self.codec == Codec::Gzip {
            // At most PART_MAX.
            let expected = member_head((PART_HEADER_LEN + len) as u16, GZIP_SEAL);
            let around = self.input.up_to(start, expected.len())?;
            if around != expected || self.input.up_to(end, EMPTY_BODY.len())? != EMPTY_BODY {
                return Ok(Err(
                    "a member that is not empty, or has a wrong header".into()
                ));
            }
            self.at += EMPTY_BODY.len() as u64;
        }
        let part = Part {
            kind: number(&head, 8, 4) as u32,
            offset: number(&head, 16, 8),
            content_len: number(&head, 24, 4) as u32,
            codec: head[28],
            bytes,
        };
        let this = (part.kind, part.offset);
        if part.kind == 0 || this <= self.before {
            return Ok(Err("a part out of order".into()));
        }
        self.before = this;
        Ok(Ok(part))
    }

    /// A description of bytes after the last part that are not padding.
    fn rest(&self) -> Result<Option<String>, Stop> {
        let padded = match self.codec {
            Codec::None => self.at.next_multiple_of(PLAIN_UNIT),
            _ => self.at,
        };
        let stray = self.input.first_nonzero(self.at, self.end)?;
        Ok(
            match self.before == (0, 0) || padded == self.end && stray.is_none() {
                true => None,
                false => Some(format!("{} bytes", self.end.saturating_sub(self.at))),
            },
        )
    }
}

impl Parts {
    /// Adds the key block. Returns a description of what is wrong with it.
    fn add_key(&mut self, part: Part, at: u64) -> Option<String> {
        let len = part.bytes.len();
        if part.codec != CODEC_NONE || part.content_len as usize != len || part.offset != 0 {
            return Some(format!(
                "a key block of {len} bytes that is compressed or in pieces"
            ));
        }
        self.key = Some((part.bytes, at + PART_HEADER_LEN as u64));
        None
    }

    /// Adds a piece of the list of unproven ranges. Returns a description of what is wrong with it.
    fn add(&mut self, part: &Part, last: &mut u64, content: u64) -> Option<String> {
        let piece = part.bytes.len();
        if part.codec != CODEC_NONE
            || part.content_len as usize != piece
            || !piece.is_multiple_of(16)
        {
            return Some(format!(
                "a list of {piece} bytes, not of whole 16-byte ranges"
            ));
        }
        if part.offset != self.ranges * 16 {
            return Some(format!(
                "a list at offset {}; expected offset {}",
                part.offset,
                self.ranges * 16
            ));
        }
        for range in part.bytes.chunks_exact(16) {
            let (start, len) = (number(range, 0, 8), number(range, 8, 8));
            let end = start.checked_add(len).filter(|end| *end <= content);
            let ascends = start > *last || self.ranges == 0;
            let Some(end) = end.filter(|_| len > 0 && ascends) else {
                return Some(format!(
                    "an invalid unproven range of {len} bytes at {start:#x}"
                ));
            };
            *last = end;
            self.ranges += 1;
        }
        None
    }
}

/// Digests of the copy of the content's beginning.
#[derive(Default)]
struct Copy {
    /// Length and digest of each piece.
    pieces: Vec<(usize, u64)>,
    len: u64,
    decoder: Option<DCtx<'static>>,
}

impl Copy {
    /// Decodes the next piece. Returns a description of what is wrong with it.
    fn add(&mut self, part: &Part) -> Option<String> {
        let len = part.content_len as usize;
        let fits = self.len == part.offset && self.len.is_multiple_of(PART_COPY_LEN as u64);
        if !fits || len == 0 || len > PART_COPY_LEN || part.codec != CODEC_ZSTD {
            let offset = part.offset;
            return Some(format!("an invalid copy of {len} bytes at {offset:#x}"));
        }
        let decoder = self.decoder.get_or_insert_with(DCtx::create);
        let mut content = Vec::with_capacity(PART_COPY_LEN);
        if let Err(code) = decoder.decompress(&mut content, &part.bytes) {
            let why = get_error_name(code).to_lowercase();
            return Some(format!("a copy that does not decode: {why}"));
        }
        if content.len() != len {
            return Some(format!("a copy that decodes to {} bytes", content.len()));
        }
        self.pieces.push((len, xxh64(&content, 0)));
        self.len += len as u64;
        None
    }

    /// Decodes the frames again and compares their content with the copy.
    fn compare(
        &self,
        input: &Input,
        codec: Codec,
        walked: &Walked,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        let Some(first) = walked.marks.first().filter(|_| !self.pieces.is_empty()) else {
            return Ok(());
        };
        let mut pieces = self.pieces.iter();
        let (mut piece, mut at, mut differs) = (Vec::new(), 0_u64, None);
        let mut wanted = pieces.next();
        replay(input, codec, *first, walked.end, &mut |mut bytes| {
            while let Some((len, digest)) = wanted
                && !bytes.is_empty()
                && differs.is_none()
            {
                let (now, later) = bytes.split_at((len - piece.len()).min(bytes.len()));
                piece.extend_from_slice(now);
                bytes = later;
                if piece.len() == *len {
                    differs = (xxh64(&piece, 0) != *digest).then_some(at);
                    at += *len as u64;
                    piece.clear();
                    wanted = pieces.next();
                }
            }
            wanted.is_some() && differs.is_none()
        })?;
        let differs = differs.or(wanted.map(|_| at));
        let place = Location::payload("copied content", differs.unwrap_or(0));
        let say = |f: Finding| {
            f.found("content that differs from its copy")
                .expected("equal bytes")
        };
        sink.check(&rules::SEAL_PARTS, differs.is_none(), &place, say);
        Ok(())
    }
}
