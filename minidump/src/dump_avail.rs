//! `dump_avail`: which physical addresses the bitmap's bits stand for.

use crate::{ByteOrder, Error, PhysAddr};
use livecore_defs::minidump::DUMP_AVAIL_ENTRY;

/// One range of physical memory that a kernel may dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// The bit of its first page.
    pub first_bit: u64,
    /// Its pages, those it shares at either end with something else included.
    pub pages: u64,
}

/// The ranges of `dump_avail`, ascending and disjoint, with the bit number of each.
///
/// A range `[start, end)` has `ceil(end / page) - floor(start / page)` bits, which follow those of
/// the range before it (FreeBSD `sys/vm/vm_dumpset.h`). Versions without the section have one bit
/// per page from address 0: one range, [`DumpAvail::from_zero`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpAvail {
    segments: Vec<Segment>,
    page_size: u64,
    bits: u64,
    in_file: bool,
}

impl DumpAvail {
    /// The ranges of the section `bytes`, which lies at `offset` of the payload.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the ranges are not ascending, disjoint and terminated.
    pub fn parse(
        bytes: &[u8],
        order: ByteOrder,
        page_size: u64,
        offset: u64,
    ) -> Result<Self, Error> {
        let mut pairs = Vec::new();
        for entry in bytes.chunks_exact(DUMP_AVAIL_ENTRY) {
            // Halves of 8 bytes are always integers.
            let start = order.uint(&entry[..8]).unwrap_or(0);
            let end = order.uint(&entry[8..]).unwrap_or(0);
            if end == 0 {
                return Self::from_pairs_at(&pairs, page_size, offset);
            }
            pairs.push((start, end));
        }
        Err(Error::broken(
            "dump_avail",
            offset,
            format!("{} entries and no terminator", pairs.len()),
            "an entry whose end is 0",
        ))
    }

    /// The ranges `[start, end)` of `pairs`: ascending, disjoint, not empty.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the ranges are not ascending and disjoint.
    pub fn from_pairs(pairs: &[(u64, u64)], page_size: u64) -> Result<Self, Error> {
        Self::from_pairs_at(pairs, page_size, 0)
    }

    fn from_pairs_at(pairs: &[(u64, u64)], page_size: u64, offset: u64) -> Result<Self, Error> {
        let mut segments: Vec<Segment> = Vec::with_capacity(pairs.len());
        let mut bits = 0_u64;
        for (index, &(start, end)) in pairs.iter().enumerate() {
            let floor = segments.last().map_or(0, |s| s.end);
            if start >= end || start < floor {
                return Err(Error::broken(
                    format!("dump_avail entry {index}"),
                    offset.saturating_add((index * DUMP_AVAIL_ENTRY) as u64),
                    format!("{start:#x}..{end:#x}"),
                    format!("a range that is not empty and begins at {floor:#x} or above"),
                ));
            }
            let pages = end.div_ceil(page_size) - start / page_size;
            segments.push(Segment {
                start,
                end,
                first_bit: bits,
                pages,
            });
            // Disjoint ranges of a 64-bit space, at most two shared pages each: no overflow.
            bits += pages;
        }
        Ok(Self {
            segments,
            page_size,
            bits,
            in_file: true,
        })
    }

    /// What versions without the section have: bit `n` is the page at `n * page_size`.
    pub fn from_zero(bits: u64, page_size: u64) -> Self {
        let bits = bits.min(u64::MAX / page_size);
        let segment = Segment {
            start: 0,
            end: bits * page_size,
            first_bit: 0,
            pages: bits,
        };
        Self {
            segments: if bits == 0 { Vec::new() } else { vec![segment] },
            page_size,
            bits,
            in_file: false,
        }
    }

    /// Whether a bitmap of `bitmapsize` bytes, which lies at `offset` of the payload, has a bit for
    /// each page of the ranges.
    pub(crate) fn require_bits(&self, bitmapsize: u32, offset: u64) -> Result<(), Error> {
        let bits = u64::from(bitmapsize) * 8;
        if self.bits() <= bits {
            return Ok(());
        }
        Err(Error::broken(
            "page bitmap",
            offset,
            format!("{bits} bits"),
            format!("at least the {} pages of dump_avail", self.bits()),
        ))
    }

    /// Whether the ranges are the machine's own; `false` for [`DumpAvail::from_zero`].
    pub fn is_known(&self) -> bool {
        self.in_file
    }

    /// The ranges.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many bits there are: `vm_page_dump_pages`.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The end of the highest range; 0 if there is none.
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.end)
    }

    /// The bit of the page that holds `at`. An address between two ranges has none.
    pub fn bit_of(&self, at: PhysAddr) -> Option<u64> {
        let after = self.segments.partition_point(|s| s.start <= at.0);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (at.0 < segment.end)
            .then(|| segment.first_bit + (at.0 / self.page_size - segment.start / self.page_size))
    }

    /// The page that `bit` stands for.
    pub fn addr_of(&self, bit: u64) -> Option<PhysAddr> {
        self.run_of(bit).map(|(at, _)| at)
    }

    /// The page that `bit` stands for, and how many bits from it on stand for the pages that follow
    /// it in memory.
    pub fn run_of(&self, bit: u64) -> Option<(PhysAddr, u64)> {
        let after = self.segments.partition_point(|s| s.first_bit <= bit);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        let index = bit - segment.first_bit;
        (index < segment.pages).then(|| {
            let page = segment.start / self.page_size + index;
            (PhysAddr(page * self.page_size), segment.pages - index)
        })
    }

    /// The section: the pairs, then zeros up to `len` bytes. `None` if the pairs and their
    /// terminator are longer than that.
    pub fn encode(&self, order: ByteOrder, len: usize) -> Option<Vec<u8>> {
        let needed = (self.segments.len() + 1) * DUMP_AVAIL_ENTRY;
        if needed > len {
            return None;
        }
        let mut bytes = vec![0; len];
        for (entry, segment) in bytes.chunks_exact_mut(DUMP_AVAIL_ENTRY).zip(&self.segments) {
            order.put(&mut entry[..8], segment.start);
            order.put(&mut entry[8..], segment.end);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the format notes: bit numbers are computed by hand there.
    fn example() -> DumpAvail {
        DumpAvail::from_pairs(
            &[
                (0x1000, 0x9f000),
                (0x10_0000, 0x7ffe_0000),
                (0x1_0000_0000, 0x1_8000_0000),
            ],
            4096,
        )
        .unwrap()
    }

    #[test]
    fn bits_follow_the_ranges() {
        let avail = example();
        assert_eq!(avail.bits(), 1_048_446);
        assert_eq!(avail.bit_of(PhysAddr(0x1000)), Some(0));
        assert_eq!(avail.bit_of(PhysAddr(0x10_0000)), Some(158));
        assert_eq!(avail.bit_of(PhysAddr(0x1_0000_0000)), Some(524_158));
        assert_eq!(avail.addr_of(158), Some(PhysAddr(0x10_0000)));
        assert_eq!(avail.addr_of(1_048_446), None);
        assert_eq!(avail.run_of(157), Some((PhysAddr(0x9e000), 1)));
    }

    #[test]
    fn the_address_before_a_range_is_a_hole() {
        let avail = example();
        for hole in [
            0,
            0xfff,
            0x9f000,
            0xf_ffff,
            0x7ffe_0000,
            0xffff_ffff,
            u64::MAX,
        ] {
            assert_eq!(avail.bit_of(PhysAddr(hole)), None, "{hole:#x}");
        }
        assert_eq!(DumpAvail::from_zero(8, 4096).bit_of(PhysAddr(0x8000)), None);
        assert_eq!(DumpAvail::from_zero(0, 4096).bit_of(PhysAddr(0)), None);
    }

    #[test]
    fn pages_shared_at_the_ends_count_for_both_ranges() {
        let avail = DumpAvail::from_pairs(&[(0x800, 0x1800), (0x1800, 0x2000)], 4096).unwrap();
        assert_eq!(avail.bits(), 3);
        assert_eq!(avail.bit_of(PhysAddr(0x1800)), Some(2));
        assert_eq!(avail.addr_of(2), Some(PhysAddr(0x1000)));
        assert_eq!(avail.addr_of(0), Some(PhysAddr(0)));
        assert_eq!(avail.bit_of(PhysAddr(0)), None);
    }

    #[test]
    fn lists_that_overlap_descend_or_do_not_end_are_broken_at_their_entry() {
        for (pairs, at) in [
            (&[(0x1000, 0x3000), (0x2000, 0x4000)][..], 16),
            (&[(0x5000, 0x6000), (0x1000, 0x2000)], 16),
            (&[(0x5000, 0x5000)], 0),
            (&[(0x5000, 0x4000)], 0),
        ] {
            let Err(Error::Broken { offset, .. }) = DumpAvail::from_pairs(pairs, 4096) else {
                panic!("{pairs:x?} was taken");
            };
            assert_eq!(offset, at);
        }
        let bytes = [1_u8; 4096];
        let error = DumpAvail::parse(&bytes[..16], ByteOrder::Big, 4096, 7).unwrap_err();
        assert!(matches!(error, Error::Broken { offset: 7, .. }), "{error}");
    }

    #[test]
    fn section_is_read_back_in_either_order() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let bytes = example().encode(order, 4096).unwrap();
            assert_eq!(DumpAvail::parse(&bytes, order, 4096, 0).unwrap(), example());
            assert_eq!(example().encode(order, 48), None);
        }
    }
}
