//! Search for a seal whose footer is damaged, and detection of the codec.

use crate::seal::format::*;
use crate::seal::read::{self, Parsed, Tail};
use crate::table::{Entry, FrameTable};
use crate::zstd_format::{
    SEEK_ENTRY_LEN, SEEK_FOOTER_LEN, SEEK_TABLE_MAGIC, SEEKABLE_MAGIC, SKIPPABLE_HEADER_LEN,
};
use crate::{Codec, Error, ReadAt};

/// Number of bytes to search at a time.
const PIECE: usize = 1 << 20;

/// A seal, or a remnant of one.
pub(super) struct Found {
    pub(super) codec: Codec,
    pub(super) parsed: Parsed,
    /// Start of the seal.
    pub(super) start: u64,
    /// The frames in the seek table after a zstd seal, if the index is damaged.
    pub(super) table: Option<FrameTable>,
    /// Whether the stream ends with its footer.
    pub(super) ends_stream: bool,
}

/// The seal of a stream of `len` bytes: the one that its footer points to, otherwise the last one with
/// a valid header. `begins` is the codec by the beginning of the stream, if that determines it; a seal
/// of another codec is not that of this stream.
pub(super) fn seal(
    source: &dyn ReadAt,
    len: u64,
    begins: Option<Codec>,
) -> Result<Option<Found>, Error> {
    if let Tail::Seal {
        codec,
        start: Ok(start),
    } = read::tail(source, len)?
        && begins.is_none_or(|begins| begins == codec)
        && let Some(found) = parsed(source, codec, start, len)?
    {
        return Ok(Some(Found {
            ends_stream: true,
            ..found
        }));
    }
    let mut end = len;
    let mut bytes = vec![0; PIECE + MAGIC.len() - 1];
    // Search from the end: the memory in a dump may contain seals of other dumps.
    while end > 0 {
        let from = end.saturating_sub(PIECE as u64);
        let overlap = (len - end).min(MAGIC.len() as u64 - 1);
        let piece = &mut bytes[..(end - from + overlap) as usize];
        let got = source.read_full_at(piece, from).map_err(Error::Read)?;
        let mut rest = &piece[..got];
        while let Some(at) = rest.windows(MAGIC.len()).rposition(|w| w == MAGIC) {
            if let Some(found) = around(source, from + at as u64, len)?
                && begins.is_none_or(|begins| begins == found.codec)
            {
                return Ok(Some(found));
            }
            rest = &rest[..at + MAGIC.len() - 1];
        }
        end = from;
    }
    Ok(None)
}

/// The seal whose header is at `at`, in any wrapping.
fn around(source: &dyn ReadAt, at: u64, len: u64) -> Result<Option<Found>, Error> {
    let mut byte = [0; 1];
    // Byte 10 of a header is the codec.
    if source
        .read_full_at(&mut byte, at + 10)
        .map_err(Error::Read)?
        == 0
    {
        return Ok(None);
    }
    let (codec, before) = match byte[0] {
        CODEC_NONE => (Codec::None, 0),
        CODEC_GZIP => (Codec::Gzip, (GZIP_EMPTY_LEN - 10) as u64),
        CODEC_ZSTD => (Codec::Zstd, SKIPPABLE_HEADER_LEN as u64),
        _ => return Ok(None),
    };
    match at.checked_sub(before) {
        Some(start) => parsed(source, codec, start, len),
        None => Ok(None),
    }
}

fn parsed(source: &dyn ReadAt, codec: Codec, start: u64, len: u64) -> Result<Option<Found>, Error> {
    let parsed = match read::parse_moved(source, codec, start, len) {
        Ok(parsed) => parsed,
        Err(Error::Read(error)) => return Err(Error::Read(error)),
        Err(_) => return Ok(None),
    };
    let table = match (&parsed.table, codec) {
        (None, Codec::Zstd) => seek_table(source, &parsed.header, len)?,
        _ => None,
    };
    Ok(Some(Found {
        codec,
        start,
        parsed,
        table,
        ends_stream: false,
    }))
}

/// The frames in the seek table at the end of a zstd stream, if the table agrees with the seal's
/// header. Its last entry is that of the seal.
fn seek_table(
    source: &dyn ReadAt,
    header: &SealHeader,
    len: u64,
) -> Result<Option<FrameTable>, Error> {
    let body =
        (header.frames + 1 + u64::from(header.parts > 0)).saturating_mul(SEEK_ENTRY_LEN as u64);
    let whole = body.saturating_add((SKIPPABLE_HEADER_LEN + SEEK_FOOTER_LEN) as u64);
    let Some(start) = len.checked_sub(whole) else {
        return Ok(None);
    };
    let mut head = [0; 4];
    let mut foot = [0; 4];
    source
        .read_exact_at(&mut head, start)
        .map_err(Error::Read)?;
    source
        .read_exact_at(&mut foot, len - 4)
        .map_err(Error::Read)?;
    let right =
        u32::from_le_bytes(head) == SEEK_TABLE_MAGIC && u32::from_le_bytes(foot) == SEEKABLE_MAGIC;
    if !right {
        return Ok(None);
    }
    let mut table = FrameTable::new(header.frame_size);
    let mut at = start + SKIPPABLE_HEADER_LEN as u64;
    for _ in 0..header.frames {
        let mut entry = [0; SEEK_ENTRY_LEN];
        source.read_exact_at(&mut entry, at).map_err(Error::Read)?;
        at += SEEK_ENTRY_LEN as u64;
        let [a, b, c, d, e, f, g, h, ..] = entry;
        let stored_len = u32::from_le_bytes([a, b, c, d]);
        let content_len = u32::from_le_bytes([e, f, g, h]);
        let fits = content_len <= header.frame_size
            && stored_len <= read::longest_frame(Codec::Zstd, content_len);
        let entry = Entry {
            stored_len,
            ..Entry::default()
        };
        if !fits || table.push(content_len, entry).is_none() {
            return Ok(None);
        }
    }
    let right =
        table.stored_len() == header.stored_len && table.content_len() == header.content_len;
    Ok(right.then_some(table))
}
