//! `dump_avail`: the physical addresses of the bitmap's bits.

use crate::{ByteOrder, Error, PhysAddr};
use livecore_defs::minidump::DUMP_AVAIL_ENTRY;
use std::ops::Range;

/// One range of physical memory that a kernel may dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvailRange {
    /// The first address.
    pub start: PhysAddr,
    /// The end address, exclusive.
    pub end: PhysAddr,
    /// The bit of its first page.
    pub first_bit: u64,
    /// The number of its pages, including partial pages at both ends.
    pub pages: u64,
}

/// The ranges of `dump_avail`, ascending and disjoint, with their bit numbers.
///
/// A range `[start, end)` has `ceil(end / page) - floor(start / page)` bits, which follow those of
/// the previous range (FreeBSD `sys/vm/vm_dumpset.h`). Versions without the section have one bit per
/// page from address 0: one range, [`DumpAvail::from_zero`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpAvail {
    ranges: Vec<AvailRange>,
    page_size: u64,
    bits: u64,
    in_file: bool,
}

impl DumpAvail {
    /// Parses the section `bytes` at `offset` of the payload.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Broken`] if the ranges are not ascending, disjoint and terminated.
    pub fn parse(
        bytes: &[u8],
        order: ByteOrder,
        page_size: u64,
        offset: u64,
    ) -> Result<Self, Error> {
        let mut ranges = Vec::new();
        for entry in bytes.chunks_exact(DUMP_AVAIL_ENTRY) {
            // Both halves have 8 bytes, so this cannot fail.
            let start = PhysAddr(order.uint(&entry[..8]).unwrap_or(0));
            let end = PhysAddr(order.uint(&entry[8..]).unwrap_or(0));
            if end == PhysAddr(0) {
                return Self::from_ranges_at(&ranges, page_size, offset);
            }
            ranges.push(start..end);
        }
        Err(Error::broken(
            "dump_avail",
            offset,
            format!("{} entries without a terminator", ranges.len()),
            "terminator: an entry with end 0",
        ))
    }

    /// Creates a list of `ranges`, which must be ascending, disjoint and not empty.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Broken`] if the ranges are not ascending and disjoint.
    pub fn from_ranges(ranges: &[Range<PhysAddr>], page_size: u64) -> Result<Self, Error> {
        Self::from_ranges_at(ranges, page_size, 0)
    }

    fn from_ranges_at(
        ranges: &[Range<PhysAddr>],
        page_size: u64,
        offset: u64,
    ) -> Result<Self, Error> {
        let mut list: Vec<AvailRange> = Vec::with_capacity(ranges.len());
        let mut bits = 0_u64;
        for (index, &Range { start, end }) in ranges.iter().enumerate() {
            let floor = list.last().map_or(PhysAddr(0), |s| s.end);
            if start >= end || start < floor {
                return Err(Error::broken(
                    format!("dump_avail entry {index}"),
                    offset.saturating_add((index * DUMP_AVAIL_ENTRY) as u64),
                    format!("{start:#x}..{end:#x}"),
                    format!("non-empty range that starts at {floor:#x} or above"),
                ));
            }
            let pages = end.0.div_ceil(page_size) - start.0 / page_size;
            list.push(AvailRange {
                start,
                end,
                first_bit: bits,
                pages,
            });
            // The ranges are disjoint and share at most two pages, so this cannot overflow.
            bits += pages;
        }
        Ok(Self {
            ranges: list,
            page_size,
            bits,
            in_file: true,
        })
    }

    /// Creates the range of versions without the section: bit `n` is the page at `n * page_size`.
    pub fn from_zero(bits: u64, page_size: u64) -> Self {
        let bits = bits.min(u64::MAX / page_size);
        let range = AvailRange {
            start: PhysAddr(0),
            end: PhysAddr(bits * page_size),
            first_bit: 0,
            pages: bits,
        };
        Self {
            ranges: if bits == 0 { Vec::new() } else { vec![range] },
            page_size,
            bits,
            in_file: false,
        }
    }

    /// Checks that a bitmap of `bitmapsize` bytes, at `offset` of the payload, has a bit for each page
    /// of the ranges.
    pub(crate) fn require_bits(&self, bitmapsize: u32, offset: u64) -> Result<(), Error> {
        let bits = u64::from(bitmapsize) * 8;
        if self.bits() <= bits {
            return Ok(());
        }
        Err(Error::broken(
            "page bitmap",
            offset,
            format!("{bits} bits"),
            format!(
                "at least {}, the number of pages in dump_avail",
                self.bits()
            ),
        ))
    }

    /// Whether the ranges are those of the machine; `false` for [`DumpAvail::from_zero`].
    pub fn is_known(&self) -> bool {
        self.in_file
    }

    /// The ranges.
    pub fn ranges(&self) -> &[AvailRange] {
        &self.ranges
    }

    /// The number of bits: `vm_page_dump_pages`.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// The end of the highest range, or 0 without ranges.
    pub fn end(&self) -> PhysAddr {
        self.ranges.last().map_or(PhysAddr(0), |s| s.end)
    }

    /// Returns the bit of the page that contains `at`, or `None` if `at` is in no range.
    pub fn bit_of(&self, at: PhysAddr) -> Option<u64> {
        let after = self.ranges.partition_point(|s| s.start <= at);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let first_page = range.start.0 / self.page_size;
        (at < range.end).then(|| range.first_bit + (at.0 / self.page_size - first_page))
    }

    /// Returns the address of the page of `bit`.
    pub fn addr_of(&self, bit: u64) -> Option<PhysAddr> {
        self.run_of(bit).map(|(at, _)| at)
    }

    /// Returns the address of the page of `bit`, and the number of bits from `bit` whose pages are
    /// contiguous in memory.
    pub fn run_of(&self, bit: u64) -> Option<(PhysAddr, u64)> {
        let after = self.ranges.partition_point(|s| s.first_bit <= bit);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let index = bit - range.first_bit;
        (index < range.pages).then(|| {
            let page = range.start.0 / self.page_size + index;
            (PhysAddr(page * self.page_size), range.pages - index)
        })
    }

    /// Encodes the section: the pairs, then zeros up to `len` bytes. Returns `None` if the pairs and
    /// their terminator do not fit.
    pub fn encode(&self, order: ByteOrder, len: usize) -> Option<Vec<u8>> {
        let needed = (self.ranges.len() + 1) * DUMP_AVAIL_ENTRY;
        if needed > len {
            return None;
        }
        let mut bytes = vec![0; len];
        for (entry, range) in bytes.chunks_exact_mut(DUMP_AVAIL_ENTRY).zip(&self.ranges) {
            order.put(&mut entry[..8], range.start.0);
            order.put(&mut entry[8..], range.end.0);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn avail(pairs: &[(u64, u64)]) -> Result<DumpAvail, Error> {
        let ranges = pairs.iter();
        let ranges = ranges.map(|(start, end)| PhysAddr(*start)..PhysAddr(*end));
        DumpAvail::from_ranges(&ranges.collect::<Vec<_>>(), 4096)
    }

    /// The example in the format documentation.
    fn example() -> DumpAvail {
        avail(&[
            (0x1000, 0x9f000),
            (0x10_0000, 0x7ffe_0000),
            (0x1_0000_0000, 0x1_8000_0000),
        ])
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
    fn an_address_outside_the_ranges_has_no_bit() {
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
    fn a_page_shared_by_two_ranges_has_two_bits() {
        let avail = avail(&[(0x800, 0x1800), (0x1800, 0x2000)]).unwrap();
        assert_eq!(avail.bits(), 3);
        assert_eq!(avail.bit_of(PhysAddr(0x1800)), Some(2));
        assert_eq!(avail.addr_of(2), Some(PhysAddr(0x1000)));
        assert_eq!(avail.addr_of(0), Some(PhysAddr(0)));
        assert_eq!(avail.bit_of(PhysAddr(0)), None);
    }

    #[test]
    fn overlapping_descending_or_unterminated_lists_are_broken_at_their_entry() {
        for (pairs, at) in [
            (&[(0x1000, 0x3000), (0x2000, 0x4000)][..], 16),
            (&[(0x5000, 0x6000), (0x1000, 0x2000)], 16),
            (&[(0x5000, 0x5000)], 0),
            (&[(0x5000, 0x4000)], 0),
        ] {
            let Err(Error::Broken { offset, .. }) = avail(pairs) else {
                panic!("no error for {pairs:x?}");
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
