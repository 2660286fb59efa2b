//! Where a seal may lie, by the bytes at a file's end alone: asked before the frames are walked.

use livecore_compress::Codec;
use livecore_compress::seal::format::*;
use xxhash_rust::xxh64::xxh64;

use crate::input::{Input, number};
use crate::report::Stop;

/// RFC 1952: a member's header with an extra field and nothing else, as a seal has it.
pub(crate) const EXTRA_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3];
/// The last number of the zstd project's seek table.
pub(crate) const SEEK_MAGIC: u32 = 0x8F92_EAB1;
/// RFC 1951 and 1952: bytes of the deflate stream of nothing, and of its trailer.
const EMPTY_BODY_LEN: u64 = 10;
/// Bytes of that table's entries.
const SEEK_ENTRY: u64 = 12;
/// Bytes of that table's footer.
pub(crate) const SEEK_FOOTER: usize = 9;

/// Where an uncompressed seal begins, and the frames that it digests.
pub(crate) struct Plain {
    pub(crate) start: u64,
    /// Where the data ends: of version 2 parts may lie between.
    pub(crate) data: u64,
    pub(crate) frame_size: Option<u32>,
}

/// Finds an uncompressed seal by its footer, or if that is damaged by its header.
pub(crate) fn locate_plain(input: &Input) -> Result<Plain, Stop> {
    let size = input.size();
    let footer = input.array::<FOOTER_LEN>(size.saturating_sub(FOOTER_LEN as u64))?;
    let stated = footer.map(|f| number(&f, 8, 8));
    let mut start = size;
    if let Some(at) = stated.and_then(|len| size.checked_sub(len))
        && input.array::<8>(at)? == Some(MAGIC)
    {
        start = at;
    } else {
        let from = size.saturating_sub(1 << 20);
        let tail = input.up_to(from, 1 << 20)?;
        let found = tail.windows(8).rposition(|w| w == MAGIC);
        if let Some(index) = found {
            start = from + index as u64;
        } else if let Some(at) = stated.and_then(|len| size.checked_sub(len)) {
            start = at;
        }
    }
    let header = input.up_to(start, HEADER_LEN)?;
    let frame_size = number(&header, 12, 4) as u32;
    let sound = frame_size > 0 && frame_size <= FRAME_MAX && frame_size.is_multiple_of(FRAME_UNIT);
    let stored = number(&header, 24, 8);
    let parts = has_right_digest(&header) && has_parts(&header) && stored <= start;
    Ok(Plain {
        start,
        data: if parts { stored } else { start },
        frame_size: sound.then_some(frame_size),
    })
}

/// Whether an uncompressed seal lies near the end of a file that does not end as its footer does:
/// its header is where it says that it is, with the digest that it states. Bytes were appended, or
/// the seal was cut.
pub(crate) fn lies_before_the_end(input: &Input) -> Result<bool, Stop> {
    let from = input.size().saturating_sub(1 << 20);
    let tail = input.up_to(from, 1 << 20)?;
    let right = |at: &usize| is_in_place(tail.get(*at..).unwrap_or_default(), from + *at as u64);
    let places = tail.windows(8).enumerate();
    let mut places = places.filter(|(_, w)| *w == MAGIC).map(|(at, _)| at);
    Ok(places.any(|at| right(&at)))
}

/// Whether a seal's header, which `bytes` begin with, has the digest that it states.
fn has_right_digest(bytes: &[u8]) -> bool {
    let digest = bytes.get(..HEADER_DIGESTED).map(|bytes| xxh64(bytes, 0));
    bytes.starts_with(&MAGIC)
        && bytes.len() >= HEADER_LEN_1
        && digest == Some(number(bytes, HEADER_DIGESTED, 8))
}

/// Whether a header is of a version that has parts.
fn has_parts(header: &[u8]) -> bool {
    number(header, 8, 2) == u64::from(VERSION) && header.len() >= HEADER_LEN
}

/// Whether `bytes` begin with a header that says that its seal begins at `at`.
fn is_in_place(bytes: &[u8], at: u64) -> bool {
    let parts = match has_parts(bytes) {
        true => number(bytes, 72, 8),
        false => 0,
    };
    has_right_digest(bytes) && number(bytes, 24, 8).checked_add(parts) == Some(at)
}

/// Whether a compressed file ends as a sealed one does.
pub(crate) fn ends_sealed(input: &Input, codec: Codec) -> Result<bool, Stop> {
    let size = input.size();
    match codec {
        Codec::Zstd => {
            let table = input.up_to(size.saturating_sub(SEEK_FOOTER as u64), SEEK_FOOTER)?;
            Ok(number(&table, 5, 4) == u64::from(SEEK_MAGIC))
        }
        Codec::Gzip => {
            let last = input.up_to(size.saturating_sub(GZIP_LAST_LEN as u64), GZIP_LAST_LEN)?;
            Ok(last.starts_with(&EXTRA_HEADER) && last.get(12..14) == Some(&GZIP_FOOTER))
        }
        Codec::None => Ok(false),
    }
}

/// The codec of a file that ends as a sealed one does.
pub(crate) fn codec_of_end(input: &Input) -> Result<Option<Codec>, Stop> {
    let footer = input.up_to(input.size().saturating_sub(FOOTER_LEN as u64), FOOTER_LEN)?;
    let plain = footer.starts_with(&FOOTER_MAGIC) && footer.ends_with(&END_MAGIC);
    if plain || lies_before_the_end(input)? {
        return Ok(Some(Codec::None));
    }
    // The number that ends a seek table is any tool's: the seal in front of it has to be there too.
    let from = input.size().saturating_sub(1 << 20);
    let sealed = input.up_to(from, 1 << 20)?.windows(8).any(|w| w == MAGIC);
    for codec in [Codec::Zstd, Codec::Gzip] {
        if sealed && ends_sealed(input, codec)? {
            return Ok(Some(codec));
        }
    }
    Ok(None)
}

/// Where the seal of a compressed file begins, found from the file's end: by its footer, or where
/// bytes follow it by its header.
pub(crate) fn seal_of(input: &Input, codec: Codec) -> Result<Option<u64>, Stop> {
    let by_footer = footer_end(input, codec)?.and_then(|end| end.checked_sub(FOOTER_LEN as u64));
    if let Some(at) = by_footer
        && let Some(footer) = input.array::<FOOTER_LEN>(at)?
        && footer.starts_with(&FOOTER_MAGIC)
        && xxh64(&footer[..FOOTER_DIGESTED], 0) == number(&footer, FOOTER_DIGESTED, 8)
        && let Some(start) = wrapped_start(codec, at, number(&footer, 8, 8))
        && is_header(input, codec, start)?
    {
        return Ok(Some(start));
    }
    let from = input.size().saturating_sub(1 << 20);
    let tail = input.up_to(from, 1 << 20)?;
    let places = tail.windows(8).enumerate().filter(|(_, w)| *w == MAGIC);
    for (at, _) in places {
        let at = from + at as u64;
        if let Some(start) = at.checked_sub(wrapping_of(codec))
            && is_header(input, codec, start)?
        {
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// Bytes of the codec between the beginning of what wraps a seal and the seal's header.
fn wrapping_of(codec: Codec) -> u64 {
    match codec {
        Codec::None => 0,
        Codec::Gzip => EXTRA_HEADER.len() as u64 + 2 + 4,
        Codec::Zstd => 8,
    }
}

/// Where the footer ends, if the file's last bytes are those of a sealed file.
fn footer_end(input: &Input, codec: Codec) -> Result<Option<u64>, Stop> {
    let size = input.size();
    if !ends_sealed(input, codec)? {
        return Ok(None);
    }
    match codec {
        Codec::None => Ok(Some(size)),
        Codec::Gzip => Ok(size.checked_sub(EMPTY_BODY_LEN)),
        Codec::Zstd => {
            let footer = input.up_to(size.saturating_sub(SEEK_FOOTER as u64), SEEK_FOOTER)?;
            // Its frame's header, an entry for each frame, its footer.
            let table = 8 + number(&footer, 0, 4) * SEEK_ENTRY + SEEK_FOOTER as u64;
            Ok(size.checked_sub(table))
        }
    }
}

/// Where what wraps a seal of `len` bytes begins, whose footer is at `footer`.
fn wrapped_start(codec: Codec, footer: u64, len: u64) -> Option<u64> {
    match codec {
        Codec::None | Codec::Zstd => {
            let end = footer.checked_add(FOOTER_LEN as u64)?;
            end.checked_sub(len)?.checked_sub(wrapping_of(codec))
        }
        Codec::Gzip => {
            // The footer is once more in a member of its own.
            let last = footer.checked_sub(wrapping_of(codec))?;
            let members = len.div_ceil(GZIP_PIECE as u64);
            let each = wrapping_of(codec) + EMPTY_BODY_LEN;
            last.checked_sub(len.checked_add(members.checked_mul(each)?)?)
        }
    }
}

/// Whether what begins at `start` wraps a seal's header whose digest is right, and that does not
/// say that the data ends behind it.
fn is_header(input: &Input, codec: Codec, start: u64) -> Result<bool, Stop> {
    let header = input.up_to(start.saturating_add(wrapping_of(codec)), HEADER_LEN)?;
    Ok(has_right_digest(&header) && number(&header, 24, 8) <= start)
}
