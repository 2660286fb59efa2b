//! Search for a seal from the end of a file, before the frames are walked.

use livecore_compress::Codec;
use livecore_compress::seal::format::*;
use xxhash_rust::xxh64::xxh64;

use crate::input::{Input, number};
use crate::report::Stop;

/// RFC 1952: the header of a seal's member, with an extra field and no other optional field.
pub(crate) const EXTRA_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3];
/// The last word of the seek table of the zstd seekable format.
pub(crate) const SEEK_MAGIC: u32 = 0x8F92_EAB1;
/// RFC 1951 and 1952: size of an empty deflate stream with its trailer.
const EMPTY_BODY_LEN: u64 = 10;
/// Size of a seek table entry.
const SEEK_ENTRY: u64 = 12;
/// Size of the seek table's footer.
pub(crate) const SEEK_FOOTER: usize = 9;

/// The location of an uncompressed seal.
pub(crate) struct Plain {
    pub(crate) start: u64,
    /// End of the data: in version 2 parts may precede the seal.
    pub(crate) data: u64,
    pub(crate) frame_size: Option<u32>,
}

/// Locates an uncompressed seal by its footer, or if the footer is damaged by its header.
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

/// Whether the last MiB of the file contains the header of an uncompressed seal, at the offset and
/// with the digest that the header states. Such a file has bytes after its seal, or a truncated seal.
pub(crate) fn has_plain_header(input: &Input) -> Result<bool, Stop> {
    let from = input.size().saturating_sub(1 << 20);
    let tail = input.up_to(from, 1 << 20)?;
    let right = |at: &usize| is_in_place(tail.get(*at..).unwrap_or_default(), from + *at as u64);
    let magics = tail.windows(8).enumerate();
    let mut magics = magics.filter(|(_, w)| *w == MAGIC).map(|(at, _)| at);
    Ok(magics.any(|at| right(&at)))
}

/// Whether the seal header at the beginning of `bytes` has the digest that it states.
fn has_right_digest(bytes: &[u8]) -> bool {
    let digest = bytes.get(..HEADER_DIGESTED).map(|bytes| xxh64(bytes, 0));
    bytes.starts_with(&MAGIC)
        && bytes.len() >= HEADER_LEN_1
        && digest == Some(number(bytes, HEADER_DIGESTED, 8))
}

/// Whether the header's version has parts.
fn has_parts(header: &[u8]) -> bool {
    number(header, 8, 2) == u64::from(VERSION) && header.len() >= HEADER_LEN
}

/// Whether `bytes` begin with a valid header that states `at` as the start of its seal.
fn is_in_place(bytes: &[u8], at: u64) -> bool {
    let parts = match has_parts(bytes) {
        true => number(bytes, 72, 8),
        false => 0,
    };
    has_right_digest(bytes) && number(bytes, 24, 8).checked_add(parts) == Some(at)
}

/// Whether a compressed file ends like a sealed file.
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

/// The codec of a file that ends like a sealed file.
pub(crate) fn codec_of_end(input: &Input) -> Result<Option<Codec>, Stop> {
    let footer = input.up_to(input.size().saturating_sub(FOOTER_LEN as u64), FOOTER_LEN)?;
    let plain = footer.starts_with(&FOOTER_MAGIC) && footer.ends_with(&END_MAGIC);
    if plain || has_plain_header(input)? {
        return Ok(Some(Codec::None));
    }
    // Other programs write seek tables too: require a seal before it.
    let from = input.size().saturating_sub(1 << 20);
    let sealed = input.up_to(from, 1 << 20)?.windows(8).any(|w| w == MAGIC);
    for codec in [Codec::Zstd, Codec::Gzip] {
        if sealed && ends_sealed(input, codec)? {
            return Ok(Some(codec));
        }
    }
    Ok(None)
}

/// Start of the seal of a compressed file, found by its footer, or by its header if bytes follow
/// the seal.
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
    let magics = tail.windows(8).enumerate().filter(|(_, w)| *w == MAGIC);
    for (at, _) in magics {
        let at = from + at as u64;
        if let Some(start) = at.checked_sub(wrapping_of(codec))
            && is_header(input, codec, start)?
        {
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// Size of the frame or member header before the seal's header.
fn wrapping_of(codec: Codec) -> u64 {
    match codec {
        Codec::None => 0,
        Codec::Gzip => EXTRA_HEADER.len() as u64 + 2 + 4,
        Codec::Zstd => 8,
    }
}

/// End of the footer, if the file ends like a sealed file.
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
            // Skippable frame header, an entry for each frame, footer.
            let table = 8 + number(&footer, 0, 4) * SEEK_ENTRY + SEEK_FOOTER as u64;
            Ok(size.checked_sub(table))
        }
    }
}

/// Start of the frame or members around a seal of `len` bytes with its footer at `footer`.
fn wrapped_start(codec: Codec, footer: u64, len: u64) -> Option<u64> {
    match codec {
        Codec::None | Codec::Zstd => {
            let end = footer.checked_add(FOOTER_LEN as u64)?;
            end.checked_sub(len)?.checked_sub(wrapping_of(codec))
        }
        Codec::Gzip => {
            // The last member repeats the footer.
            let last = footer.checked_sub(wrapping_of(codec))?;
            let members = len.div_ceil(GZIP_PIECE as u64);
            let each = wrapping_of(codec) + EMPTY_BODY_LEN;
            last.checked_sub(len.checked_add(members.checked_mul(each)?)?)
        }
    }
}

/// Whether the frame or member at `start` contains a seal header with the right digest that states
/// an end of the data before `start`.
fn is_header(input: &Input, codec: Codec, start: u64) -> Result<bool, Stop> {
    let header = input.up_to(start.saturating_add(wrapping_of(codec)), HEADER_LEN)?;
    Ok(has_right_digest(&header) && number(&header, 24, 8) <= start)
}
