//! The layout of a raw file: the addresses of its bytes.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use livecore_defs::PhysAddr;
use livecore_defs::amd64::PAGE_SIZE;

/// The start of memory above the hole of a PC.
pub(crate) const FOUR_GIB: u64 = 4 << 30;

/// The layout of a raw file.
///
/// As text: `flat`, `pc`, `q35`, `pc:SIZE`, or ranges `START-END[@OFFSET],...`. Numbers are
/// decimal, or hexadecimal after `0x`, with an optional suffix K, M, G or T.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawLayout {
    /// Offsets are addresses.
    Flat,
    /// RAM without the hole that a PC has below 4 GiB: `below` bytes from address 0 on, the rest
    /// from 4 GiB on.
    Hole {
        /// Bytes below the hole.
        below: u64,
    },
    /// RAM of QEMU's `pc`: a hole from 3 GiB on, with at least 3.5 GiB of RAM.
    Pc,
    /// RAM of QEMU's `q35`: a hole from 2 GiB on, with at least 2.75 GiB of RAM.
    Q35,
    /// Ranges of addresses, each with the file offset of its first byte.
    Ranges(Vec<(Range<PhysAddr>, u64)>),
}

impl RawLayout {
    /// The bytes of RAM below the hole, in a file of `len` bytes; all of them if there is no hole.
    pub(super) fn below(&self, len: u64) -> u64 {
        // QEMU `hw/i386/pc_piix.c` and `pc_q35.c`, without `max-ram-below-4g`.
        match self {
            Self::Hole { below } => *below,
            Self::Pc if len >= 0xe000_0000 => 0xc000_0000,
            Self::Q35 if len >= 0xb000_0000 => 0x8000_0000,
            Self::Flat | Self::Pc | Self::Q35 | Self::Ranges(_) => len,
        }
    }
}

impl fmt::Display for RawLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat => f.write_str("flat"),
            Self::Pc => f.write_str("pc"),
            Self::Q35 => f.write_str("q35"),
            Self::Hole { below } => write!(f, "pc:{below:#x}"),
            Self::Ranges(ranges) => {
                for (index, (range, offset)) in ranges.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{:#x}-{:#x}@{offset:#x}", range.start, range.end)?;
                }
                Ok(())
            }
        }
    }
}

/// Parses a number of bytes.
fn number(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a number of bytes");
    let (digits, shift) = match text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G', 't', 'T']) {
        digits if digits.len() + 1 == text.len() => {
            let shift = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
                Some(b'k') => 10,
                Some(b'm') => 20,
                Some(b'g') => 30,
                _ => 40,
            };
            (digits, shift)
        }
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    }
    .map_err(|_| bad())?;
    value.checked_mul(1 << shift).ok_or_else(bad)
}

fn page_number(text: &str) -> Result<u64, String> {
    let value = number(text)?;
    if value.is_multiple_of(PAGE_SIZE) {
        return Ok(value);
    }
    Err(format!(
        "{text} is not a multiple of the page size {PAGE_SIZE:#x}"
    ))
}

impl FromStr for RawLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "flat" => return Ok(Self::Flat),
            "pc" => return Ok(Self::Pc),
            "q35" => return Ok(Self::Q35),
            _ => {}
        }
        if let Some(size) = text.strip_prefix("pc:") {
            let below = page_number(size)?;
            if below == 0 || below >= FOUR_GIB {
                return Err(format!("{size} is not a valid size of RAM below 4 GiB"));
            }
            return Ok(Self::Hole { below });
        }
        let mut ranges: Vec<(Range<PhysAddr>, u64)> = Vec::new();
        for part in text.split(',') {
            let (range, offset) = match part.split_once('@') {
                Some((range, offset)) => (range, Some(page_number(offset)?)),
                None => (part, None),
            };
            let (start, end) = range.split_once('-').ok_or_else(|| {
                format!("{part:?} is not a layout; expected flat, pc, q35, pc:SIZE or START-END[@OFFSET],...")
            })?;
            let (start, end) = (page_number(start)?, page_number(end)?);
            if start >= end {
                return Err(format!("{part}: empty range {start:#x} to {end:#x}"));
            }
            ranges.push((PhysAddr(start)..PhysAddr(end), offset.unwrap_or(start)));
        }
        Ok(Self::Ranges(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_convert_to_text_and_back() {
        for (text, layout) in [
            ("flat", RawLayout::Flat),
            ("pc", RawLayout::Pc),
            ("q35", RawLayout::Q35),
            ("pc:3G", RawLayout::Hole { below: 3 << 30 }),
            (
                "0-640K,0x100000-512M",
                RawLayout::Ranges(vec![
                    (PhysAddr(0)..PhysAddr(640 << 10), 0),
                    (PhysAddr(1 << 20)..PhysAddr(512 << 20), 1 << 20),
                ]),
            ),
            (
                "0-3G,4G-5G@3G",
                RawLayout::Ranges(vec![
                    (PhysAddr(0)..PhysAddr(3 << 30), 0),
                    (PhysAddr(4 << 30)..PhysAddr(5 << 30), 3 << 30),
                ]),
            ),
        ] {
            let parsed: RawLayout = text.parse().unwrap();
            assert_eq!(parsed, layout, "{text}");
            assert_eq!(parsed.to_string().parse(), Ok(layout), "{text}");
        }
        for text in [
            "",
            "pc:",
            "pc:4G",
            "pc:1",
            "0-",
            "1-2",
            "4096-0",
            "0-4096@7",
            "0-4096@",
            "x-y",
            "0-99999999999999T",
            "0x-0x1000",
            "flat,pc",
        ] {
            assert!(text.parse::<RawLayout>().is_err(), "{text}");
        }
    }

    #[test]
    fn qemu_machines_have_qemus_hole() {
        const GIB: u64 = 1 << 30;
        for (layout, len, below) in [
            (RawLayout::Pc, 3 * GIB, 3 * GIB),
            (RawLayout::Pc, 0xe000_0000 - 4096, 0xe000_0000 - 4096),
            (RawLayout::Pc, 0xe000_0000, 3 * GIB),
            (RawLayout::Q35, 2 * GIB, 2 * GIB),
            (RawLayout::Q35, 0xb000_0000, 2 * GIB),
            (RawLayout::Flat, 9 * GIB, 9 * GIB),
        ] {
            assert_eq!(layout.below(len), below, "{layout} {len:#x}");
        }
    }
}
