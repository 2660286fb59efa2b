//! Memory that lies in a file as it is: ranges of addresses, each at an offset of its own.
//!
//! Most formats are a table of such pieces and nothing else. A format adds its pieces in the order
//! of the file; they are sorted, compared with the file's length and with each other, and joined.
//! Two pieces may say the same thing twice (QEMU writes one segment for each mapping of a page);
//! two that give one address different bytes are a contradiction.

use std::io;
use std::ops::Range;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::Error;

use super::Options;
use super::source::Source;
use livecore_minidump::PhysMemory;
use livecore_minidump::phys::check;

/// One piece.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The first address.
    pa: u64,
    /// Bytes.
    len: u64,
    /// Where they lie in the file.
    offset: u64,
    /// Where the file says so.
    said_at: u64,
}

/// Pieces as a format finds them.
pub(super) struct Pieces<'a> {
    options: &'a Options,
    source: &'a Source,
    /// What the format calls a piece: `LiME range`, `PT_LOAD`.
    name: &'static str,
    pieces: Vec<Piece>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(name: &'static str, source: &'a Source, options: &'a Options) -> Self {
        Self {
            options,
            source,
            name,
            pieces: Vec::new(),
        }
    }

    /// Adds `len` bytes from address `pa` on, which are at `offset` of the file; the file says so
    /// at `said_at`. Pieces without bytes count for nothing.
    pub(super) fn add(
        &mut self,
        pa: u64,
        len: u64,
        offset: u64,
        said_at: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let name = self.name;
        if pa.checked_add(len).is_none() {
            return Err(Error::broken(
                name,
                said_at,
                format!("{len:#x} bytes from address {pa:#x}"),
                "an end below 2^64",
            ));
        }
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.source.len())
        {
            return Err(Error::broken(
                name,
                said_at,
                format!("{len:#x} bytes at offset {offset:#x}"),
                format!("an end within the file's {:#x} bytes", self.source.len()),
            ));
        }
        if let Some(last) = self.pieces.last_mut()
            && last.pa + last.len == pa
            && last.offset + last.len == offset
        {
            last.len += len;
            return Ok(());
        }
        let needed = (self.pieces.len() as u64 + 1) * size_of::<Piece>() as u64;
        self.options.allow(name, needed)?;
        self.pieces.push(Piece {
            pa,
            len,
            offset,
            said_at,
        });
        Ok(())
    }

    /// The memory.
    pub(super) fn finish(mut self) -> Result<Linear, Error> {
        self.pieces.sort_by_key(|piece| (piece.pa, piece.offset));
        let mut joined: Vec<Piece> = Vec::new();
        for piece in self.pieces {
            let Some(last) = joined.last_mut() else {
                joined.push(piece);
                continue;
            };
            // Neither sum overflows: `add` has looked.
            let (end, piece_end) = (last.pa + last.len, piece.pa + piece.len);
            let same = piece.offset.wrapping_sub(last.offset) == piece.pa.wrapping_sub(last.pa);
            if piece.pa <= end && same {
                last.len = end.max(piece_end) - last.pa;
            } else if piece.pa < end {
                return Err(Error::broken(
                    self.name,
                    piece.said_at,
                    format!("address {:#x} at offset {:#x}", piece.pa, piece.offset),
                    format!(
                        "an address from {end:#x} up: the one at {:#x} has {:#x} to there",
                        last.said_at, last.pa
                    ),
                ));
            } else {
                joined.push(piece);
            }
        }
        joined.shrink_to_fit();
        let ranges = pages_of(joined.iter().map(|p| p.pa..p.pa + p.len));
        if ranges.is_empty() {
            return Err(Error::broken(
                self.name,
                0,
                "no whole page of memory",
                "at least one",
            ));
        }
        Ok(Linear {
            source: self.source.clone(),
            pieces: joined,
            ranges,
        })
    }
}

/// The whole pages of ascending, disjoint ranges, of which those that touch are one.
pub(super) fn pages_of(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined.retain_mut(|range| {
        let start = range.start.checked_next_multiple_of(PAGE_SIZE);
        range.end -= range.end % PAGE_SIZE;
        range.start = start.unwrap_or(u64::MAX);
        range.start < range.end
    });
    joined
}

/// Memory that lies in a file as it is.
pub(super) struct Linear {
    source: Source,
    /// Ascending and disjoint.
    pieces: Vec<Piece>,
    ranges: Vec<Range<u64>>,
}

impl Linear {
    /// Calls `each` with the parts of `len` bytes at `at`: their offset in the file, and where
    /// they begin and how long they are. Stops when `each` says no.
    fn parts(&self, at: u64, len: u64, mut each: impl FnMut(u64, u64, u64) -> bool) -> bool {
        let mut done = 0;
        while done < len {
            let here = at + done;
            let after = self.pieces.partition_point(|p| p.pa + p.len <= here);
            let Some(piece) = self.pieces.get(after).filter(|p| p.pa <= here) else {
                return false;
            };
            let inside = here - piece.pa;
            let n = (piece.len - inside).min(len - done);
            if !each(piece.offset + inside, done, n) {
                return false;
            }
            done += n;
        }
        true
    }
}

impl PhysMemory for Linear {
    fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        check(&self.ranges, at, buf.len())?;
        let mut result = Ok(());
        // The ranges are made of pieces, so every part of a range is found.
        self.parts(at, buf.len() as u64, |offset, start, n| {
            let part = &mut buf[start as usize..(start + n) as usize];
            result = self.source.bytes().read_exact_at(part, offset);
            result.is_ok()
        });
        result
    }

    fn known_zero(&self, at: u64, len: u64) -> bool {
        livecore_minidump::phys::first_outside(&self.ranges, at, len).is_none()
            && self.parts(at, len, |offset, _, n| self.source.known_zero(offset, n))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn source(len: usize) -> Source {
        let bytes: Vec<u8> = (0..len).map(|at| (at / 4096) as u8).collect();
        Source::of(Arc::new(bytes), &Options::default()).unwrap()
    }

    #[test]
    fn pieces_are_sorted_and_joined_and_only_whole_pages_are_memory() {
        let (source, options) = (source(0x5000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x9000, 0x1c00, 0x3000, 7).unwrap();
        pieces.add(0x1000, 0x1000, 0x1000, 8).unwrap();
        pieces.add(0x2000, 0x800, 0x0, 9).unwrap();
        let memory = pieces.finish().unwrap();
        assert_eq!(memory.ranges(), [0x1000..0x2000, 0x9000..0xa000]);
        let mut byte = [0];
        memory.read(0x1fff, &mut byte).unwrap();
        assert_eq!(byte, [1]);
        memory.read(0x9fff, &mut byte).unwrap();
        assert_eq!(byte, [3]);
        assert!(memory.read(0x2000, &mut byte).is_err());
    }

    #[test]
    fn the_same_bytes_twice_are_no_contradiction_and_others_are() {
        let (source, options) = (source(0x5000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x1000, 0x3000, 0x1000, 0).unwrap();
        pieces.add(0x2000, 0x1000, 0x2000, 8).unwrap();
        pieces.add(0x3000, 0x2000, 0x3000, 16).unwrap();
        let memory = pieces.finish().unwrap();
        assert_eq!(memory.ranges(), std::slice::from_ref(&(0x1000..0x5000)));

        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x1000, 0x3000, 0x1000, 0).unwrap();
        pieces.add(0x2000, 0x1000, 0x1000, 8).unwrap();
        let error = pieces.finish().err().unwrap().to_string();
        assert!(
            error.starts_with("piece at offset 0x8: found address 0x2000"),
            "{error}"
        );
    }

    #[test]
    fn pieces_beyond_the_file_and_beyond_memory_are_refused() {
        let (source, options) = (source(0x2000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        for (pa, len, offset) in [
            (0, 0x1000, 0x1001),
            (0, u64::MAX, 0x1000),
            (u64::MAX - 1, 0x1000, 0),
            (0, 0x1000, u64::MAX),
        ] {
            assert!(
                pieces.add(pa, len, offset, 0).is_err(),
                "{pa:#x} {len:#x} {offset:#x}"
            );
        }
        let small = Options {
            tables: 3 * size_of::<Piece>() as u64,
            ..Options::default()
        };
        let mut pieces = Pieces::new("piece", &source, &small);
        let added = (0..9).map(|i| pieces.add(i << 20, 0x1000, 0, 0).is_ok());
        assert_eq!(added.filter(|ok| *ok).count(), 3);
    }
}
