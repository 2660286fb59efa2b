//! The bytes of a seal: their offsets in the file, and findings about wrong bytes.

use crate::finding::{Location, Sink};
use crate::input::{Input, count, hex};
use crate::report::Stop;

/// The ranges of the file that contain a seal.
#[derive(Default)]
pub(super) struct Pieces {
    /// Offset in the seal, offset in the file, length; in order, without gaps in the seal.
    pieces: Vec<(u64, u64, u64)>,
    pub(super) len: u64,
}

impl Pieces {
    pub(super) fn push(&mut self, at: u64, len: u64) {
        self.pieces.push((self.len, at, len));
        self.len += len;
    }

    /// File offset of byte `offset` of the seal.
    pub(super) fn at(&self, offset: u64) -> u64 {
        let after = self.pieces.partition_point(|p| p.0 <= offset);
        match after.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some((first, at, _)) => at + (offset - first),
            None => offset,
        }
    }

    /// Up to `len` bytes of the seal at `offset`.
    pub(super) fn read(&self, input: &Input, offset: u64, len: usize) -> Result<Vec<u8>, Stop> {
        let end = offset.saturating_add(len as u64);
        let mut bytes = Vec::new();
        let first = self.pieces.partition_point(|p| p.0 + p.2 <= offset);
        for (start, at, have) in &self.pieces[first..] {
            if *start >= end {
                break;
            }
            let from = offset.max(*start);
            let to = end.min(start + have);
            bytes.extend(input.up_to(at + (from - start), (to - from) as usize)?);
        }
        Ok(bytes)
    }
}

/// Checks that `found` equals `expected`.
pub(super) fn same(
    rule: &'static crate::Rule,
    found: &[u8],
    expected: &[u8],
    place: &Location<'_>,
    at: u64,
    sink: &mut Sink,
) -> bool {
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    let first = first.or((found.len() != expected.len()).then(|| found.len().min(expected.len())));
    sink.check(rule, first.is_none(), place, |f| {
        let first = first.unwrap_or(0);
        let rest = |b: &[u8]| match b.get(first..b.len().min(first + 8)) {
            Some(bytes) if !bytes.is_empty() => hex(bytes),
            _ => "the end".into(),
        };
        f.found(format!("{} at byte {first}", rest(found)))
            .expected(rest(expected))
            .bytes(at + first as u64, &found[first.min(found.len())..])
    })
}

/// Reports the bytes after a seal that ends at `end`.
pub(super) fn trailing_bytes(
    rule: &'static crate::Rule,
    input: &Input,
    end: u64,
    sink: &mut Sink,
) -> Result<(), Stop> {
    let bytes = input.up_to(end, 64)?;
    sink.broken(rule, &Location::file("after the seal", end), |f| {
        let trailing = input.size().saturating_sub(end);
        f.found(format!(
            "{} after the end of the dump",
            count(trailing, "byte")
        ))
        .expected(format!("the end of the file at {end:#x}"))
        .bytes(end, &bytes)
    });
    Ok(())
}
