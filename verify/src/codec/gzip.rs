//! The structure of gzip streams (RFC 1952).
//!
//! A member is: a header of 10 bytes (two of magic, method, flags, time, hints, system), the
//! optional fields that the flags select, a deflate stream, CRC-32 and content length modulo 2^32.
//! The end of the deflate stream is found by inflating it. Members of a sealed file also state it in
//! their extra field; the two must agree.

use livecore_compress::seal::format::{GZIP_DATA, GZIP_DATA_LEN};

use super::walked::Malformed;
use crate::input::Input;
use crate::report::Stop;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// CM: deflate, the only method that RFC 1952 defines.
const DEFLATE: u8 = 8;
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;
/// Size of CRC-32 and length.
pub(super) const TRAILER: u64 = 8;
/// Maximum size of a header: an extra field and two names of reasonable length.
const HEADER_MAX: usize = 192 << 10;
/// The header that FreeBSD's kernel writes: no flags, no time, no hints, system 3.
/// FreeBSD `sys/kern/subr_compressor.c`; seen in 12.1 dumps.
pub(super) const KERNEL_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// What follows at an offset of the stream.
#[derive(Debug)]
pub(super) enum Step {
    /// A member with data.
    Member(Member),
    /// A member of a seal, without data: the seal is in its extra field.
    Seal { at: u64 },
    /// No member: the stream ends here, or before.
    End(u64),
    /// The magic of a member, with an invalid header.
    Malformed(Malformed),
}

/// A member, as its header describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) at: u64,
    /// Offset of the deflate stream.
    pub(super) body: u64,
    /// Stored length and content length, if the extra field states them.
    pub(super) lens: Option<(u32, u32)>,
    /// The fixed part of the header.
    pub(super) fixed: [u8; 10],
}

/// Parses what begins at `at`, up to `limit`.
pub(super) fn step(input: &Input, at: u64, limit: u64) -> Result<Step, Stop> {
    let left = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
    let mut bytes = input.up_to(at, left.min(64))?;
    if !bytes.starts_with(&MAGIC) {
        return Ok(Step::End(at));
    }
    let malformed = |found: &str, expected: &str| {
        Ok(Step::Malformed(Malformed {
            at,
            found: found.into(),
            expected: expected.into(),
        }))
    };
    let Some(fixed) = bytes.first_chunk::<10>().copied() else {
        return malformed("a truncated header", "at least ten bytes");
    };
    if fixed[2] != DEFLATE || fixed[3] & RESERVED != 0 {
        return malformed(
            &format!("method {}, flags {:#04x}", fixed[2], fixed[3]),
            "method 8 and no reserved flag",
        );
    }
    // Headers of sealed files fit in the bytes read so far.
    if optional(&bytes, fixed[3]).is_none() {
        bytes = input.up_to(at, left.min(HEADER_MAX))?;
    }
    let Some((len, extra)) = optional(&bytes, fixed[3]) else {
        return malformed(
            "optional fields that do not end",
            "a header of at most 192 KiB",
        );
    };
    if fixed[3] & FHCRC != 0 {
        let found = bytes[len - 2..len].to_vec();
        let right = (crc32fast::hash(&bytes[..len - 2]) as u16).to_le_bytes();
        if found != right {
            return malformed(
                &format!("header CRC {}", crate::input::hex(&found)),
                &format!("header CRC {}", crate::input::hex(&right)),
            );
        }
    }
    let id = extra.first_chunk::<2>().copied();
    if matches!(
        id,
        Some(
            livecore_compress::seal::format::GZIP_SEAL
                | livecore_compress::seal::format::GZIP_FOOTER
        )
    ) {
        return Ok(Step::Seal { at });
    }
    let lens = (id == Some(GZIP_DATA) && extra.len() == 4 + GZIP_DATA_LEN).then(|| {
        let word =
            |i: usize| u32::from_le_bytes([extra[i], extra[i + 1], extra[i + 2], extra[i + 3]]);
        (word(4), word(8))
    });
    Ok(Step::Member(Member {
        at,
        body: at + len as u64,
        lens,
        fixed,
    }))
}

/// Length of the header at the beginning of `bytes`, and its extra field.
fn optional(bytes: &[u8], flags: u8) -> Option<(usize, &[u8])> {
    let mut at = 10;
    let mut extra: &[u8] = &[];
    if flags & FEXTRA != 0 {
        let len = bytes.get(at..at + 2)?;
        let len = usize::from(u16::from_le_bytes([len[0], len[1]]));
        extra = bytes.get(at + 2..at + 2 + len)?;
        at += 2 + len;
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            at += bytes.get(at..)?.iter().position(|b| *b == 0)? + 1;
        }
    }
    if flags & FHCRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some((at, extra))
}
