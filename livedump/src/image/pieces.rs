//! Memory that lies in a file as it is: ranges of addresses, each at an offset of its own.
//!
//! Most formats are a table of such pieces and nothing else. A format adds its pieces in the order
//! of the file; they are sorted, compared with the file's length and with each other, and joined.
//! Two pieces may say the same thing twice (QEMU writes one segment for each mapping of a page, and
//! vmcores have the kernel's text in a segment of its own). Of two that give one address different
//! bytes the one that begins at the lower address is used, or that lies first in the file, and
//! [`PhysMemory::contradiction`] names them.

use std::io;
use std::ops::Range;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::Error;

use super::options::Options;
use super::source::Source;
use livecore_minidump::check_ranges;
use livecore_minidump::{PhysAddr, PhysMemory};

/// Bytes that are compared at once.
const BATCH: usize = 16 << 10;

/// A piece.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The first address.
    pa: u64,
    /// The length.
    len: u64,
    /// The file offset; `None` for zeros that are not in the file.
    offset: Option<u64>,
    /// The file offset of its record.
    recorded_at: u64,
}

/// Collects the pieces of a format.
pub(super) struct Pieces<'a> {
    options: &'a Options,
    source: &'a Source,
    /// The format's name for a piece: `LiME range`, `PT_LOAD`.
    name: &'static str,
    pieces: Vec<Piece>,
    /// Addresses of memory after the end of the file.
    missing: Vec<Range<u64>>,
    /// Whether the file ends inside a record.
    is_cut: bool,
}

impl Piece {
    /// The file offset of address 0. Adjacent pieces with the same origin are merged.
    fn origin(&self) -> Option<u64> {
        self.offset.map(|offset| offset.wrapping_sub(self.pa))
    }

    fn end(&self) -> u64 {
        // `add` has checked that the sum does not overflow.
        self.pa + self.len
    }
}

impl<'a> Pieces<'a> {
    pub(super) fn new(name: &'static str, source: &'a Source, options: &'a Options) -> Self {
        Self {
            options,
            source,
            name,
            pieces: Vec::new(),
            missing: Vec::new(),
            is_cut: false,
        }
    }

    /// Records that the file ends inside a record.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Adds `len` bytes at address `pa`, which are at `offset` of the file and recorded at
    /// `recorded_at`. Empty pieces are ignored. Bytes after the end of the file are missing.
    pub(super) fn add(
        &mut self,
        pa: u64,
        len: u64,
        offset: u64,
        recorded_at: u64,
    ) -> Result<(), Error> {
        if len == 0 {
            return Ok(());
        }
        let (Some(end), Some(_)) = (pa.checked_add(len), offset.checked_add(len)) else {
            return Err(Error::broken(
                self.name,
                recorded_at,
                format!("{len:#x} bytes from address {pa:#x}, at offset {offset:#x}"),
                "ends below 2^64",
            ));
        };
        let stored = self.source.len().saturating_sub(offset).min(len);
        if stored < len {
            let needed = (self.missing.len() as u64 + 1) * size_of::<Range<u64>>() as u64;
            self.options.allow(self.name, needed)?;
            self.missing.push(pa + stored..end);
        }
        if stored == 0 {
            return Ok(());
        }
        self.push(Piece {
            pa,
            len: stored,
            offset: Some(offset),
            recorded_at,
        })
    }

    /// Adds `len` zero bytes at address `pa` that are not in the file.
    pub(super) fn add_zeros(&mut self, pa: u64, len: u64, recorded_at: u64) -> Result<(), Error> {
        self.push(Piece {
            pa,
            len,
            offset: None,
            recorded_at,
        })
    }

    fn push(&mut self, piece: Piece) -> Result<(), Error> {
        if piece.pa.checked_add(piece.len).is_none() {
            return Err(Error::broken(
                self.name,
                piece.recorded_at,
                format!("{:#x} bytes from address {:#x}", piece.len, piece.pa),
                "an end below 2^64",
            ));
        }
        if let Some(last) = self.pieces.last_mut()
            && last.end() == piece.pa
            && last.origin() == piece.origin()
        {
            last.len += piece.len;
            return Ok(());
        }
        let needed = (self.pieces.len() as u64 + 1) * size_of::<Piece>() as u64;
        self.options.allow(self.name, needed)?;
        self.pieces.push(piece);
        Ok(())
    }

    /// Builds the memory.
    pub(super) fn finish(mut self) -> Result<Linear, Error> {
        self.pieces.sort_by_key(|piece| (piece.pa, piece.offset));
        let mut joined: Vec<Piece> = Vec::new();
        let mut compared = 0;
        let mut contradiction = None;
        for mut piece in self.pieces {
            let Some(last) = joined.last_mut() else {
                joined.push(piece);
                continue;
            };
            let end = last.end();
            if piece.pa <= end && piece.origin() == last.origin() {
                last.len = end.max(piece.end()) - last.pa;
                continue;
            }
            if piece.pa < end {
                let before = *last;
                let both = end.min(piece.end()) - piece.pa;
                compared += both;
                // Limit the comparisons, so that a file with many overlaps does not take forever.
                if compared > self.source.len() {
                    return Err(Error::broken(
                        self.name,
                        piece.recorded_at,
                        format!("overlaps of {compared:#x} bytes"),
                        format!(
                            "at most {:#x} bytes, the size of the file",
                            self.source.len()
                        ),
                    ));
                }
                let is_same = equal(self.source, &joined, &piece, both)?;
                if !is_same && contradiction.is_none() {
                    contradiction = Some(format!(
                        "{name}s at offsets {there:#x} and {here:#x} differ from address {pa:#x} \
                         on; using the one at {there:#x}",
                        name = self.name,
                        here = piece.recorded_at,
                        pa = piece.pa,
                        there = before.recorded_at,
                    ));
                }
                piece.pa += both;
                piece.len -= both;
                piece.offset = piece.offset.map(|offset| offset + both);
            }
            if piece.len > 0 {
                joined.push(piece);
            }
        }
        joined.shrink_to_fit();
        let ranges = pages_of(joined.iter().map(|p| p.pa..p.pa + p.len));
        if ranges.is_empty() {
            return Err(Error::broken(
                self.name,
                0,
                "no complete page of memory",
                "at least one",
            ));
        }
        let missing = missing_pages(self.missing, &ranges);
        let shortage = (missing > 0 || self.is_cut).then(|| shortage(missing));
        Ok(Linear {
            source: self.source.clone(),
            pieces: joined,
            ranges,
            contradiction,
            shortage,
        })
    }
}

/// The message about a file that ends before its last page. `missing` is the known number of missing
/// pages.
pub(super) fn shortage(missing: u64) -> String {
    match missing {
        0 => "the file ends inside its last record".into(),
        1 => "the file ends before its last page: 1 page is missing".into(),
        pages => format!("the file ends before its last page: {pages} pages are missing"),
    }
}

/// The number of pages of `missing` that are not in the ascending `ranges`.
pub(super) fn missing_pages(mut missing: Vec<Range<u64>>, ranges: &[Range<PhysAddr>]) -> u64 {
    missing.sort_unstable_by_key(|range| range.start);
    let (mut pages, mut at) = (0, 0);
    for range in missing {
        // Pages that have an end here are incomplete.
        at = range.start.max(at);
        let mut bytes = 0;
        while at < range.end {
            let after = ranges.partition_point(|r| r.end.0 <= at);
            let next = ranges.get(after).map_or(u64::MAX, |r| r.start.0);
            if next <= at {
                at = ranges[after].end.0;
                continue;
            }
            let end = next.min(range.end);
            bytes += end - at;
            at = end;
        }
        pages += bytes.div_ceil(PAGE_SIZE);
    }
    pages
}

/// Whether the first `len` bytes of `piece` are equal to those of `joined` at the same addresses,
/// all of which it covers: its pieces are sorted, and the last one ends last.
fn equal(source: &Source, joined: &[Piece], piece: &Piece, len: u64) -> Result<bool, Error> {
    let (mut a, mut b) = ([0; BATCH], [0; BATCH]);
    let mut done = 0;
    while done < len {
        let at = piece.pa + done;
        let after = joined.partition_point(|other| other.end() <= at);
        let Some(other) = joined.get(after).filter(|other| other.pa <= at) else {
            return Ok(false);
        };
        let n = (other.end() - at).min(len - done).min(BATCH as u64);
        for (of, into) in [(piece, &mut a), (other, &mut b)] {
            let into = &mut into[..n as usize];
            match of.offset {
                Some(offset) => source.bytes().read_exact_at(into, offset + (at - of.pa))?,
                None => into.fill(0),
            }
        }
        if a[..n as usize] != b[..n as usize] {
            return Ok(false);
        }
        done += n;
    }
    Ok(true)
}

/// The complete pages of sorted, disjoint ranges; adjacent ranges are merged.
pub(super) fn pages_of(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<PhysAddr>> {
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
    let joined = joined.into_iter();
    joined
        .map(|range| PhysAddr(range.start)..PhysAddr(range.end))
        .collect()
}

/// Uncompressed memory in a file.
pub(super) struct Linear {
    source: Source,
    /// Sorted and disjoint.
    pieces: Vec<Piece>,
    ranges: Vec<Range<PhysAddr>>,
    contradiction: Option<String>,
    shortage: Option<String>,
}

impl Linear {
    /// Records that the file lacks `len` bytes of memory at its end.
    pub(super) fn lack(&mut self, len: u64) {
        self.shortage = Some(shortage(len.div_ceil(PAGE_SIZE)));
    }

    /// Calls `each` with the parts of `len` bytes at `at`: the file offset (`None` for zeros), the
    /// position and the length. Stops when `each` returns `false`.
    fn parts(
        &self,
        at: u64,
        len: u64,
        mut each: impl FnMut(Option<u64>, u64, u64) -> bool,
    ) -> bool {
        let mut done = 0;
        while done < len {
            let here = at + done;
            let after = self.pieces.partition_point(|p| p.pa + p.len <= here);
            let Some(piece) = self.pieces.get(after).filter(|p| p.pa <= here) else {
                return false;
            };
            let inside = here - piece.pa;
            let n = (piece.len - inside).min(len - done);
            if !each(piece.offset.map(|offset| offset + inside), done, n) {
                return false;
            }
            done += n;
        }
        true
    }
}

impl PhysMemory for Linear {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        check_ranges(&self.ranges, PhysAddr(at), buf.len())?;
        let mut result = Ok(());
        // The ranges consist of pieces, so every part of a range is found.
        self.parts(at, buf.len() as u64, |offset, start, n| {
            let part = &mut buf[start as usize..(start + n) as usize];
            match offset {
                Some(offset) => result = self.source.bytes().read_exact_at(part, offset),
                None => part.fill(0),
            }
            result.is_ok()
        });
        result
    }

    fn contradiction(&self) -> Option<&str> {
        self.contradiction.as_deref()
    }

    fn shortage(&self) -> Option<&str> {
        self.shortage.as_deref()
    }

    fn known_zero(&self, PhysAddr(at): PhysAddr, len: u64) -> bool {
        livecore_minidump::first_outside(&self.ranges, PhysAddr(at), len).is_none()
            && self.parts(at, len, |offset, _, n| {
                offset.is_none_or(|offset| self.source.known_zero(offset, n))
            })
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
    fn pieces_are_sorted_and_merged_to_complete_pages() {
        let (source, options) = (source(0x5000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x9000, 0x1c00, 0x3000, 7).unwrap();
        pieces.add(0x1000, 0x1000, 0x1000, 8).unwrap();
        pieces.add(0x2000, 0x800, 0x0, 9).unwrap();
        let memory = pieces.finish().unwrap();
        assert_eq!(
            memory.ranges(),
            [
                PhysAddr(0x1000)..PhysAddr(0x2000),
                PhysAddr(0x9000)..PhysAddr(0xa000)
            ]
        );
        let mut byte = [0];
        memory.read(PhysAddr(0x1fff), &mut byte).unwrap();
        assert_eq!(byte, [1]);
        memory.read(PhysAddr(0x9fff), &mut byte).unwrap();
        assert_eq!(byte, [3]);
        assert!(memory.read(PhysAddr(0x2000), &mut byte).is_err());
    }

    #[test]
    fn pieces_of_one_origin_may_overlap_and_different_bytes_are_a_contradiction() {
        let (source, options) = (source(0x5000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x1000, 0x3000, 0x1000, 0).unwrap();
        pieces.add(0x2000, 0x1000, 0x2000, 8).unwrap();
        pieces.add(0x3000, 0x2000, 0x3000, 16).unwrap();
        let memory = pieces.finish().unwrap();
        assert_eq!(memory.ranges(), [PhysAddr(0x1000)..PhysAddr(0x5000)]);

        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x1000, 0x3000, 0x1000, 0).unwrap();
        pieces.add(0x2000, 0x1000, 0x1000, 8).unwrap();
        let memory = pieces.finish().unwrap();
        let expected = "pieces at offsets 0x0 and 0x8 differ from address 0x2000 on; using the \
                        one at 0x0";
        assert_eq!(memory.contradiction(), Some(expected));
        let mut byte = [0];
        memory.read(PhysAddr(0x2000), &mut byte).unwrap();
        assert_eq!(byte, [2]);
    }

    #[test]
    fn overlapping_pieces_with_equal_bytes_are_accepted() {
        let options = Options::default();
        let mut bytes = vec![0; 0x8000];
        for (index, byte) in bytes[..0x4000].iter_mut().enumerate() {
            *byte = (index / 100) as u8;
        }
        // The second half of these and part of a page once more, at another file offset.
        bytes.copy_within(0x2000..0x4000, 0x4000);
        bytes.copy_within(0x1800..0x2400, 0x6000);
        let expected = bytes[..0x4000].to_vec();
        let source = Source::of(Arc::new(bytes), &options).unwrap();
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x10000, 0x3000, 0, 0).unwrap();
        pieces.add(0x12000, 0x2000, 0x4000, 8).unwrap();
        pieces.add(0x11800, 0xc00, 0x6000, 16).unwrap();
        let memory = pieces.finish().unwrap();
        assert_eq!(memory.contradiction(), None);
        assert_eq!(memory.ranges(), [PhysAddr(0x10000)..PhysAddr(0x14000)]);
        let mut back = vec![0xff; 0x4000];
        memory.read(PhysAddr(0x10000), &mut back).unwrap();
        assert!(back == expected);
    }

    #[test]
    fn comparison_of_many_overlaps_is_limited() {
        let options = Options::default();
        let source = Source::of(Arc::new(vec![0; 0x10000]), &options).unwrap();
        let mut pieces = Pieces::new("piece", &source, &options);
        for shift in 0..8 {
            pieces.add(0x10000 + 16 * shift, 0xf000, 0, shift).unwrap();
        }
        assert!(pieces.finish().is_err());
    }

    #[test]
    fn zeros_outside_of_the_file_are_known_zeros() {
        let (source, options) = (source(0x2000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x1000, 0x1000, 0x1000, 0).unwrap();
        pieces.add_zeros(0x2000, 0x3000, 8).unwrap();
        let memory = pieces.finish().unwrap();
        assert_eq!(memory.ranges(), [PhysAddr(0x1000)..PhysAddr(0x5000)]);
        assert!(
            memory.known_zero(PhysAddr(0x2000), 0x3000)
                && !memory.known_zero(PhysAddr(0x1000), 0x2000)
        );
        let mut back = [9; 0x2000];
        memory.read(PhysAddr(0x1800), &mut back).unwrap();
        assert!(back[..0x800] == [1; 0x800] && back[0x800..] == [0; 0x1800]);
    }

    #[test]
    fn missing_pages_are_counted_once_and_only_if_no_other_piece_has_them() {
        let (source, options) = (source(0x3000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        // Two and a half of four pages are in the file.
        pieces.add(0x10000, 0x4000, 0x800, 0).unwrap();
        // The same addresses again, after the end of the file.
        pieces.add(0x12000, 0x3000, 0x8000, 8).unwrap();
        // The last of them at another offset.
        pieces.add(0x14000, 0x1000, 0, 16).unwrap();
        let memory = pieces.finish().unwrap();
        let ranges = [(0x10000, 0x12000), (0x14000, 0x15000)];
        let ranges = ranges.map(|(start, end)| PhysAddr(start)..PhysAddr(end));
        assert_eq!(memory.ranges(), ranges);
        let message = memory.shortage().unwrap();
        assert_eq!(message, shortage(2));
        let mut pieces = Pieces::new("piece", &source, &options);
        pieces.add(0x10000, 0x3000, 0, 0).unwrap();
        assert_eq!(pieces.finish().unwrap().shortage(), None);
    }

    #[test]
    fn pieces_beyond_the_address_space_are_refused() {
        let (source, options) = (source(0x2000), Options::default());
        let mut pieces = Pieces::new("piece", &source, &options);
        for (pa, len, offset) in [
            (0, u64::MAX, 0x1000),
            (u64::MAX - 1, 0x1000, 0),
            (0, 0x1000, u64::MAX),
        ] {
            assert!(
                pieces.add(pa, len, offset, 0).is_err(),
                "{pa:#x} {len:#x} {offset:#x}"
            );
        }
        let small = Options::default().tables(3 * size_of::<Piece>() as u64);
        let mut pieces = Pieces::new("piece", &source, &small);
        let added = (0..9).map(|i| pieces.add(i << 20, 0x1000, 0, 0).is_ok());
        assert_eq!(added.filter(|ok| *ok).count(), 3);
    }
}
