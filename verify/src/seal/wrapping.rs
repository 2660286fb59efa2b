//! The frames and members around a seal: in zstd a skippable frame followed by a seek table, in
//! gzip empty members.

use livecore_compress::seal::format::*;
use xxhash_rust::xxh64::xxh64;

use super::bytes::{Pieces, same, trailing_bytes};
use crate::finding::{Location, Sink};
use crate::input::{Input, number};
use crate::probe::{EXTRA_HEADER, SEEK_FOOTER, SEEK_MAGIC};
use crate::report::Stop;
use crate::rules;

/// RFC 1951 and 1952: an empty deflate stream and its trailer.
pub(super) const EMPTY_BODY: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Size of an empty member before its subfield's content.
const PIECE_HEAD: u64 = 10 + 2 + 4;
/// zstd seekable format: magic of the seek table's frame.
const SEEK_FRAME: u32 = 0x184D_2A5E;
const SEEK_DESCRIPTOR: u8 = 0x80;
const SEEK_ENTRY: usize = 12;

/// Finds the seal in its skippable frame. Returns the offset at which the seek table should begin.
pub(super) fn unwrap_zstd(
    input: &Input,
    start: u64,
    pieces: &mut Pieces,
    sink: &mut Sink,
) -> Result<u64, Stop> {
    let head = input.up_to(start, 8)?;
    let place = Location::file("seal frame", start);
    let magic = number(&head, 0, 4);
    sink.check(
        &rules::SEAL_WRAPPING,
        magic == u64::from(ZSTD_SEAL_MAGIC),
        &place,
        |f| {
            f.found(format!("skippable frame {magic:#010x}"))
                .expected(format!("{ZSTD_SEAL_MAGIC:#010x}"))
                .bytes(start, &head)
        },
    );
    let len = number(&head, 4, 4);
    let from = start + 8;
    let end = from + len;
    let left = input.size().saturating_sub(from);
    sink.check(&rules::SEAL_WRAPPING, len <= left, &place, |f| {
        f.found(format!("a frame that ends at {end:#x}"))
            .expected(format!("an end at or before {:#x}", input.size()))
    });
    pieces.push(from, len.min(left));
    Ok(end.min(input.size()))
}

/// What a seek table states about a data frame: stored length, content length, and checksum of the
/// content.
pub(super) type SeekEntry = [u32; 3];

/// The data frames of a stream.
pub(super) struct DataFrames<'a> {
    pub(super) count: u64,
    /// The end of the last one.
    pub(super) end: u64,
    /// Their entries in a seek table, if known.
    pub(super) entries: Option<&'a mut dyn Iterator<Item = Result<SeekEntry, Stop>>>,
}

/// Checks the seek table at `at`, after the seal at `seal_at`.
pub(super) fn seek_table(
    input: &Input,
    at: u64,
    seal_at: u64,
    data: DataFrames<'_>,
    sink: &mut Sink,
) -> Result<(), Stop> {
    // The table also lists the frame around the parts, and the seal's.
    let parts_len = seal_at.saturating_sub(data.end);
    let frames = data.count.saturating_add(1 + u64::from(parts_len > 0));
    let body = frames.saturating_mul(SEEK_ENTRY as u64) + SEEK_FOOTER as u64;
    let place = Location::file("seek table", at);
    let found = input.size() - at;
    let last = SEEK_MAGIC.to_le_bytes();
    let end = at.saturating_add(body + 8);
    if found > body + 8 && input.up_to(end - last.len() as u64, last.len())? == last {
        trailing_bytes(&rules::SEAL_SEEK_TABLE, input, end, sink)?;
    } else {
        let right = sink.check(&rules::SEAL_SEEK_TABLE, found == body + 8, &place, |f| {
            f.found(format!("{found} bytes after the seal"))
                .expected(format!(
                    "a seek table of {} bytes: {frames} entries",
                    body + 8
                ))
        });
        if !right {
            return Ok(());
        }
    }
    // Without the lengths and checksums of all frames there is nothing to compare.
    let Some(entries) = data.entries else {
        return Ok(());
    };
    // Compare in pieces, to bound memory.
    let mut expected = Vec::new();
    let mut from = at;
    expected.extend(SEEK_FRAME.to_le_bytes());
    expected.extend((body as u32).to_le_bytes());
    let seal_len = (at - seal_at) as u32;
    let nothing = xxh64(&[], 0) as u32;
    let parts = (parts_len > 0).then_some(Ok([parts_len as u32, 0, nothing]));
    let seal = Ok([seal_len, 0, nothing]);
    for entry in entries.chain(parts).chain([seal]) {
        for word in entry? {
            expected.extend(word.to_le_bytes());
        }
        if expected.len() >= 1 << 16 {
            from = seek_piece(input, from, &mut expected, sink)?;
        }
    }
    expected.extend((frames as u32).to_le_bytes());
    expected.push(SEEK_DESCRIPTOR);
    expected.extend(SEEK_MAGIC.to_le_bytes());
    seek_piece(input, from, &mut expected, sink)?;
    Ok(())
}

fn seek_piece(
    input: &Input,
    at: u64,
    expected: &mut Vec<u8>,
    sink: &mut Sink,
) -> Result<u64, Stop> {
    let found = input.up_to(at, expected.len())?;
    let place = Location::file("seek table", at);
    same(&rules::SEAL_SEEK_TABLE, &found, expected, &place, at, sink);
    let next = at + expected.len() as u64;
    expected.clear();
    Ok(next)
}

/// The header of an empty member whose extra field has a subfield `id` of `len` bytes.
pub(super) fn member_head(len: u16, id: [u8; 2]) -> Vec<u8> {
    let mut head = EXTRA_HEADER.to_vec();
    head.extend(len.saturating_add(4).to_le_bytes());
    head.extend(id);
    head.extend(len.to_le_bytes());
    head
}

/// Finds the seal in its empty members. Returns the offset at which the last member should begin.
pub(super) fn unwrap_gzip(
    input: &Input,
    start: u64,
    pieces: &mut Pieces,
    sink: &mut Sink,
) -> Result<u64, Stop> {
    let mut at = start;
    loop {
        let head = input.up_to(at, PIECE_HEAD as usize)?;
        if head.get(12..14) == Some(&GZIP_FOOTER) || head.is_empty() {
            return Ok(at);
        }
        let len = number(&head, 14, 2);
        let place = Location::file("seal member", at);
        let expected = member_head(len as u16, GZIP_SEAL);
        if !same(&rules::SEAL_WRAPPING, &head, &expected, &place, at, sink) {
            return Ok(at);
        }
        let content = at + PIECE_HEAD;
        let body_at = content + len;
        let body = input.up_to(body_at, EMPTY_BODY.len())?;
        same(
            &rules::SEAL_WRAPPING,
            &body,
            &EMPTY_BODY,
            &place,
            body_at,
            sink,
        );
        pieces.push(content, len.min(input.size().saturating_sub(content)));
        at = body_at + EMPTY_BODY.len() as u64;
        // Only the last piece may be shorter.
        if len != GZIP_PIECE as u64 {
            return Ok(at);
        }
    }
}

pub(super) fn last_member(
    input: &Input,
    at: u64,
    footer: &[u8; FOOTER_LEN],
    sink: &mut Sink,
) -> Result<(), Stop> {
    let mut expected = member_head(FOOTER_LEN as u16, GZIP_FOOTER);
    expected.extend(footer);
    expected.extend(EMPTY_BODY);
    let found = input.up_to(at, expected.len())?;
    let place = Location::file("last member", at);
    let end = at.saturating_add(expected.len() as u64);
    if same(&rules::SEAL_FOOTER, &found, &expected, &place, at, sink) && end < input.size() {
        trailing_bytes(&rules::SEAL_FOOTER, input, end, sink)?;
    }
    Ok(())
}
