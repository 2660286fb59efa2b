//! The structure of zstd streams (RFC 8878).
//!
//! A frame is: magic 4, descriptor 1, window 0 or 1, dictionary 0 to 4, content size 0 to 8; then
//! blocks, each with a header of 3 bytes (last, type, size); then, if the descriptor's checksum flag
//! is set, the low half of the content's XXH64. The walk reads only headers, so it finds the end of
//! a frame without decoding it; decoding must end at the same offset.

use super::walked::Malformed;
use crate::input::Input;
use crate::report::Stop;

/// RFC 8878 3.1.1: a frame's first four bytes, as a little-endian number.
const MAGIC: u32 = 0xFD2F_B528;
/// RFC 8878 3.1.2: skippable frames begin with this number or one of the next fifteen.
const SKIPPABLE: u32 = 0x184D_2A50;
/// RFC 8878 3.1.1.2.4: maximum content size of a block.
pub(super) const BLOCK_MAX: u64 = 128 << 10;
/// Magic 4, descriptor 1, window 1, dictionary 4, content size 8.
const HEADER_MAX: usize = 18;

/// What follows at an offset of the stream.
#[derive(Debug)]
pub(super) enum Step {
    /// A data frame.
    Frame(Frame),
    /// A skippable frame: its magic, start and end.
    Skippable { magic: u32, at: u64, end: u64 },
    /// Neither: the stream ends here, or before.
    End(u64),
    /// The magic of a frame, with an invalid header.
    Malformed(Malformed),
    /// The stream ends within this frame.
    Truncated(Frame),
}

/// A data frame, as its headers describe it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) at: u64,
    pub(super) end: u64,
    /// Content length, if the header states it.
    pub(super) declared: Option<u64>,
    /// Upper bound of the content length, by the blocks.
    pub(super) most: u64,
    /// Window size: content that a decoder must keep.
    pub(super) window: u64,
    pub(super) checksum: bool,
    pub(super) dictionary: bool,
}

impl Frame {
    /// The content length that the header states, if the blocks can contain that much.
    pub(super) fn possible(&self) -> Option<u64> {
        self.declared.filter(|len| *len <= self.most)
    }
}

/// Parses what begins at `at`, up to `limit`.
pub(super) fn step(input: &Input, at: u64, limit: u64) -> Result<Step, Stop> {
    let mut bytes = input.up_to(at, HEADER_MAX)?;
    bytes.truncate(usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX));
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(Step::End(at));
    };
    let magic = u32::from_le_bytes(*magic);
    if magic & !15 == SKIPPABLE {
        return Ok(skippable(magic, rest, at, limit));
    }
    if magic != MAGIC {
        return Ok(Step::End(at));
    }
    let mut frame = Frame {
        at,
        end: limit,
        declared: None,
        most: 0,
        window: 0,
        checksum: false,
        dictionary: false,
    };
    let Some((&descriptor, mut rest)) = rest.split_first() else {
        return Ok(Step::Truncated(frame));
    };
    if descriptor & 0b1000 != 0 {
        return Ok(Step::Malformed(Malformed {
            at: at + 4,
            found: format!("frame descriptor {descriptor:#04x}"),
            expected: "the reserved bit 3 to be clear".into(),
        }));
    }
    frame.checksum = descriptor & 0b100 != 0;
    let single = descriptor & 0b10_0000 != 0;
    let mut take = |n: usize| {
        let (taken, next) = rest.split_at_checked(n)?;
        rest = next;
        Some(
            taken
                .iter()
                .rev()
                .fold(0_u64, |v, b| v << 8 | u64::from(*b)),
        )
    };
    let sizes = [usize::from(single), 2, 4, 8];
    let fields = (|| {
        let window = if single { None } else { Some(take(1)?) };
        let dictionary = take([0, 1, 2, 4][usize::from(descriptor & 3)])?;
        let kind = usize::from(descriptor >> 6);
        let size = match sizes[kind] {
            0 => None,
            2 => Some(take(2)? + 256),
            n => Some(take(n)?),
        };
        Some((window, dictionary, size))
    })();
    let header_len = bytes.len() - rest.len();
    let Some((window, dictionary, declared)) = fields else {
        return Ok(Step::Truncated(frame));
    };
    frame.declared = declared;
    frame.dictionary = dictionary != 0;
    frame.window = match window {
        Some(byte) => {
            let base = 1_u64 << (10 + (byte >> 3));
            base + base / 8 * (byte & 7)
        }
        None => declared.unwrap_or(0),
    };
    walk_blocks(input, frame, at + header_len as u64, limit)
}

fn skippable(magic: u32, rest: &[u8], at: u64, limit: u64) -> Step {
    let Some(len) = rest.first_chunk::<4>() else {
        return Step::Malformed(Malformed {
            at,
            found: "a truncated skippable frame".into(),
            expected: "a length of four bytes".into(),
        });
    };
    let end = at + 8 + u64::from(u32::from_le_bytes(*len));
    if end > limit {
        return Step::Malformed(Malformed {
            at,
            found: format!("a skippable frame that ends at {end:#x}"),
            expected: format!("an end at or before {limit:#x}"),
        });
    }
    Step::Skippable { magic, at, end }
}

fn walk_blocks(input: &Input, mut frame: Frame, from: u64, limit: u64) -> Result<Step, Stop> {
    let mut at = from;
    let mut ahead = Ahead::default();
    loop {
        let Some(bytes) = ahead.three(input, at, limit)? else {
            return Ok(Step::Truncated(frame));
        };
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        let (last, kind, size) = (word & 1 == 1, word >> 1 & 3, u64::from(word >> 3));
        if kind == 3 || size > BLOCK_MAX {
            return Ok(Step::Malformed(Malformed {
                at,
                found: format!("block header {word:#08x}: type {kind}, {size} bytes"),
                expected: format!("type 0 to 2, at most {BLOCK_MAX} bytes"),
            }));
        }
        // The size of raw and RLE blocks is that of their content.
        frame.most = frame
            .most
            .saturating_add(if kind == 2 { BLOCK_MAX } else { size });
        at += 3 + if kind == 1 { 1 } else { size };
        if last {
            break;
        }
    }
    at += if frame.checksum { 4 } else { 0 };
    if at > limit {
        return Ok(Step::Truncated(frame));
    }
    frame.end = at;
    Ok(Step::Frame(frame))
}

/// A read-ahead buffer, so that small blocks do not need a system call each.
#[derive(Default)]
struct Ahead {
    at: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    fn three(&mut self, input: &Input, at: u64, limit: u64) -> Result<Option<[u8; 3]>, Stop> {
        if at.saturating_add(3) > limit {
            return Ok(None);
        }
        let inside = |this: &Self| {
            let from = usize::try_from(at.checked_sub(this.at)?).ok()?;
            this.bytes.get(from..)?.first_chunk::<3>().copied()
        };
        if let Some(bytes) = inside(self) {
            return Ok(Some(bytes));
        }
        self.bytes = input.up_to(at, 512)?;
        self.at = at;
        Ok(inside(self))
    }
}
