//! gzip streams, walked by their own structure (RFC 1952).
//!
//! A member is: a header of 10 bytes (two of magic, method, flags, time, hints, system), the
//! optional fields that the flags announce, a deflate stream, CRC-32 and content length modulo
//! 2^32. Where the deflate stream ends only inflating tells; members of a sealed file say it in
//! their extra field as well, and inflating has to agree.

use livecore_compress::seal::format::{GZIP_DATA, GZIP_DATA_LEN};

use super::walked::Malformed;
use crate::input::Input;
use crate::report::Stop;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// CM: deflate, the only method there is.
const DEFLATE: u8 = 8;
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;
/// Bytes of CRC-32 and length.
pub(super) const TRAILER: u64 = 8;
/// Bytes of a header that are looked at: an extra field and two names of reasonable length.
const HEADER_MAX: usize = 192 << 10;
/// What FreeBSD's kernel writes: no flags, no time, no hints, system 3.
/// FreeBSD `sys/kern/subr_compressor.c`; seen in 12.1 dumps.
pub(super) const KERNEL_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// What the walk met.
#[derive(Debug)]
pub(super) enum Step {
    /// A member with data, or one that nothing more is known of.
    Member(Member),
    /// A member of a seal: no data, and this in its extra field. The content begins at `content`.
    Seal { at: u64 },
    /// No member: the stream ends here, or before.
    End(u64),
    /// What looks like a member is none.
    Malformed(Malformed),
}

/// A member, as its header describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) at: u64,
    /// Where the deflate stream begins.
    pub(super) body: u64,
    /// Stored length and content length, if the extra field says them.
    pub(super) lens: Option<(u32, u32)>,
    /// The fixed part of the header.
    pub(super) fixed: [u8; 10],
}

/// What the member or whatever else begins at `at` is; nothing is read from `limit` on.
pub(super) fn step(input: &Input, at: u64, limit: u64) -> Result<Step, Stop> {
    let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
    let mut bytes = input.up_to(at, room.min(64))?;
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
        return malformed("a header that is cut short", "at least ten bytes");
    };
    if fixed[2] != DEFLATE || fixed[3] & RESERVED != 0 {
        return malformed(
            &format!("method {}, flags {:#04x}", fixed[2], fixed[3]),
            "method 8 and no reserved flag",
        );
    }
    // A sealed file's members have all of it in the bytes at hand.
    if optional(&bytes, fixed[3]).is_none() {
        bytes = input.up_to(at, room.min(HEADER_MAX))?;
    }
    let Some((len, extra)) = optional(&bytes, fixed[3]) else {
        return malformed("optional fields without an end", "a header that ends");
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
