//! `dump_avail`: the physical addresses of the bits of the page bitmap.
//!
//! FreeBSD `sys/vm/vm_dumpset.h`. With page size P, a range [S, E) has ceil(E / P) - floor(S / P)
//! bits, and the ranges follow each other in the bitmap without gaps. In versions without the
//! section, bit 0 is the page at physical address 0.

use livecore_defs::minidump::DUMP_AVAIL_ENTRY;

use crate::finding::{Location, Region, Sink};
use crate::rules;

/// Maximum number of bytes of the section to parse: a kernel's array fits in one page.
pub(crate) const PARSED_MAX: usize = 64 << 10;

/// The ranges of `dump_avail`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Avail {
    ranges: Vec<AvailRange>,
    bits: u64,
    page: u64,
}

#[derive(Debug, Clone, Copy)]
struct AvailRange {
    start: u64,
    end: u64,
    /// Bit of the first page.
    base: u64,
}

impl Avail {
    /// One range from 0, for the versions without the section.
    pub(crate) fn from_zero(bits: u64, page: u64) -> Self {
        let end = bits.saturating_mul(page);
        Self {
            ranges: vec![AvailRange {
                start: 0,
                end,
                base: 0,
            }],
            bits,
            page,
        }
    }

    /// Start of the first range and end of the last one; `None` without ranges.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        Some((self.ranges.first()?.start, self.ranges.last()?.end))
    }

    /// Parses the section, which is at payload offset `at`, and applies its rules.
    pub(crate) fn parse(bytes: &[u8], big: bool, page: u64, at: u64, sink: &mut Sink) -> Self {
        let mut avail = Self {
            ranges: Vec::new(),
            bits: 0,
            page,
        };
        let word = |entry: &[u8], from: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&entry[from..from + 8]);
            if big {
                u64::from_be_bytes(word)
            } else {
                u64::from_le_bytes(word)
            }
        };
        let mut terminator = None;
        let mut previous = 0_u64;
        for (i, entry) in bytes.chunks_exact(DUMP_AVAIL_ENTRY).enumerate() {
            let offset = (i * DUMP_AVAIL_ENTRY) as u64 + at;
            let (start, end) = (word(entry, 0), word(entry, 8));
            if end == 0 {
                terminator = Some(i);
                break;
            }
            let place = Location::payload(Region::Nth("dump_avail range", i as u64), offset);
            let ordered = sink.check(&rules::DA_ORDER, start < end, &place, |f| {
                f.found(format!("{start:#x}..{end:#x}"))
                    .expected("a start below the end")
                    .bytes(offset, entry)
            });
            let disjoint = sink.check(&rules::DA_DISJOINT, start >= previous, &place, |f| {
                f.found(format!("{start:#x}..{end:#x}"))
                    .expected(format!("a start at or above {previous:#x}"))
                    .bytes(offset, entry)
            });
            let aligned = start % page == 0 && end % page == 0;
            sink.check(&rules::DA_ALIGN, aligned, &place, |f| {
                f.found(format!("{start:#x}..{end:#x}"))
                    .expected(format!("multiples of the page size {page:#x}"))
                    .bytes(offset, entry)
            });
            if ordered && disjoint {
                avail.add(start, end);
                previous = end;
            }
        }
        let place = Location::payload("dump_avail", at);
        sink.check(&rules::DA_TERMINATED, terminator.is_some(), &place, |f| {
            f.found(format!(
                "{} ranges up to the end of the section",
                avail.ranges.len()
            ))
            .expected("a pair whose second address is 0")
        });
        if let Some(i) = terminator {
            let tail = &bytes[i * DUMP_AVAIL_ENTRY..];
            let stray = tail.iter().position(|b| *b != 0);
            let offset = at + (i * DUMP_AVAIL_ENTRY + stray.unwrap_or(0)) as u64;
            let place = Location::payload("dump_avail", offset);
            sink.check(&rules::DA_TAIL, stray.is_none(), &place, |f| {
                f.found("a nonzero byte after the last range")
                    .expected("zeros to the end of the section")
                    .bytes(offset, &tail[stray.unwrap_or(0)..])
            });
        }
        avail
    }

    fn add(&mut self, start: u64, end: u64) {
        let pages = end.div_ceil(self.page) - start / self.page;
        let base = self.bits;
        self.bits = self.bits.saturating_add(pages);
        self.ranges.push(AvailRange { start, end, base });
    }

    /// Number of bits of the ranges: the kernel's `vm_page_dump_pages`.
    pub(crate) fn bits(&self) -> u64 {
        self.bits
    }

    /// The ranges, as pairs of addresses.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|r| (r.start, r.end))
    }

    /// The bit of the page at `pa`; `None` if no range contains it.
    pub(crate) fn bit(&self, pa: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|r| r.start <= pa);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (pa < range.end).then(|| range.base + pa / self.page - range.start / self.page)
    }

    /// The physical address of the page of `bit`.
    pub(crate) fn address(&self, bit: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|r| r.base <= bit);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let page = (range.start / self.page).checked_add(bit - range.base)?;
        let at = page.checked_mul(self.page)?;
        (at < range.end).then_some(at)
    }

    /// First bit and end of the bits of the pages in `pa..pa + len`. They are consecutive, since
    /// addresses outside of the ranges have no bits.
    pub(crate) fn bits_of(&self, pa: u64, len: u64) -> (u64, u64) {
        let end = pa.saturating_add(len);
        let first = self.ranges.partition_point(|r| r.end <= pa);
        let last = self.ranges.partition_point(|r| r.start < end);
        let touched = self.ranges.get(first..last).unwrap_or_default();
        let (Some(first), Some(last)) = (touched.first(), touched.last()) else {
            return (0, 0);
        };
        let from = pa.max(first.start) / self.page - first.start / self.page;
        let to = end.min(last.end).div_ceil(self.page) - last.start / self.page;
        (first.base + from, last.base + to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An example computed by hand.
    #[test]
    fn bits_follow_the_ranges_and_holes_have_none() {
        let mut avail = Avail {
            page: 4096,
            ..Avail::default()
        };
        avail.add(0x1000, 0x9f000);
        avail.add(0x10_0000, 0x7ffe_0000);
        avail.add(0x1_0000_0000, 0x1_8000_0000);
        assert_eq!(avail.bits(), 1_048_446);
        assert_eq!(avail.bit(0x1000), Some(0));
        assert_eq!(avail.bit(0x10_0000), Some(158));
        assert_eq!(avail.bit(0x1_0000_0000), Some(524_158));
        for pa in [0x1000, 0x9e000, 0x10_0000, 0x7ffd_f000, 0x1_7fff_f000] {
            let bit = avail.bit(pa).unwrap();
            assert_eq!(avail.address(bit), Some(pa), "{pa:#x}");
        }
        assert_eq!(avail.address(avail.bits()), None);
        for hole in [
            0,
            0xfff,
            0x9f000,
            0xf_ffff,
            0x7ffe_0000,
            0xffff_f000,
            0x1_8000_0000,
        ] {
            assert_eq!(avail.bit(hole), None, "{hole:#x}");
        }
        for (pa, len, bits) in [
            (0, 0x20_0000, (0, 158 + 256)),
            (0x1000, 0x1000, (0, 1)),
            (0x9e000, 0x6_3000, (157, 159)),
            (0x1_7fff_f000, u64::MAX, (avail.bits() - 1, avail.bits())),
            (0, u64::MAX, (0, avail.bits())),
            (0x9f000, 0x6_1000, (0, 0)),
            (0x1_8000_0000, 0x1000, (0, 0)),
            (0x1000, 0, (0, 0)),
        ] {
            assert_eq!(avail.bits_of(pa, len), bits, "{pa:#x} {len:#x}");
        }
    }
}
