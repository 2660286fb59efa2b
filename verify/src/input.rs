//! The file to verify, and numbers read from its bytes.

use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_defs::Field;

use crate::report::Stop;

/// The file to verify.
#[derive(Clone)]
pub(crate) struct Input {
    source: Arc<dyn ReadAt>,
    size: u64,
}

impl Input {
    /// Queries the size of `source`.
    pub(crate) fn new(source: Arc<dyn ReadAt>) -> Result<Self, Stop> {
        let size = source.size()?;
        Ok(Self { source, size })
    }

    /// The file.
    pub(crate) fn source(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.source)
    }

    /// Size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Up to `len` bytes at `offset`. `len` must be a constant, not a number read from the file.
    pub(crate) fn up_to(&self, offset: u64, len: usize) -> Result<Vec<u8>, Stop> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        let got = self.source.read_full_at(&mut bytes, offset)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Exactly `N` bytes at `offset`; `None` if the file ends before.
    pub(crate) fn array<const N: usize>(&self, offset: u64) -> Result<Option<[u8; N]>, Stop> {
        let mut bytes = [0; N];
        let got = self.source.read_full_at(&mut bytes, offset)?;
        Ok((got == N).then_some(bytes))
    }

    /// Fills `buf`, up to the end of the file.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<usize, Stop> {
        Ok(self.source.read_full_at(buf, offset)?)
    }

    /// Offset of the first nonzero byte in `from..to`.
    pub(crate) fn first_nonzero(&self, from: u64, to: u64) -> Result<Option<u64>, Stop> {
        let mut at = from;
        while at < to {
            let piece = usize::try_from(to - at).unwrap_or(usize::MAX).min(1 << 16);
            let bytes = self.up_to(at, piece)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(index) = bytes.iter().position(|b| *b != 0) {
                return Ok(Some(at + index as u64));
            }
            at += bytes.len() as u64;
        }
        Ok(None)
    }
}

/// `at` rounded up to a multiple of `unit`; `None` on overflow.
pub(crate) fn round_up(at: u64, unit: u64) -> Option<u64> {
    at.checked_next_multiple_of(unit)
}

/// The bytes of `field`, if `bytes` is long enough.
pub(crate) fn field(bytes: &[u8], field: Field) -> Option<&[u8]> {
    bytes.get(field.offset..field.offset.checked_add(field.len)?)
}

/// The big-endian number in `field` of at most eight bytes; 0 if `bytes` is too short.
pub(crate) fn big(bytes: &[u8], at: Field) -> u64 {
    field(bytes, at)
        .unwrap_or_default()
        .iter()
        .fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The little-endian number in `field` of at most eight bytes; 0 if `bytes` is too short.
pub(crate) fn little(bytes: &[u8], at: Field) -> u64 {
    field(bytes, at)
        .unwrap_or_default()
        .iter()
        .rev()
        .fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The little-endian number in the `len` bytes, at most eight, at `offset`; 0 if `bytes` is too short.
pub(crate) fn number(bytes: &[u8], offset: usize, len: usize) -> u64 {
    little(bytes, Field { offset, len })
}

/// Bytes as quoted text, escaped, without trailing NULs.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1);
    format!("\"{}\"", bytes[..end].escape_ascii())
}

/// `n` and `noun`, in the plural unless `n` is 1: `1 page`, `2 pages`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Two hexadecimal digits for each byte, separated by spaces.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    digits.join(" ")
}
