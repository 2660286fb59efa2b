//! dump_avail, and the bit of each physical page.

/// Pairs of physical addresses `[start, end)`, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    pairs: Vec<(u64, u64)>,
    page: u64,
    /// Bits are frame numbers, as in versions without a dump_avail section.
    flat: bool,
}

impl Ranges {
    /// Ranges with pages of `page` bytes. `flat`: bits are frame numbers.
    pub(crate) fn new(pairs: Vec<(u64, u64)>, page: u64, flat: bool) -> Self {
        Ranges { pairs, page, flat }
    }

    /// Whether a range contains the physical address.
    pub(crate) fn contains(&self, pa: u64) -> bool {
        self.pairs
            .iter()
            .any(|(start, end)| (*start..*end).contains(&pa))
    }

    /// End of the last range, or 0.
    pub(crate) fn end(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.1).max().unwrap_or(0)
    }

    /// The pairs themselves.
    pub(crate) fn pairs(&self) -> &[(u64, u64)] {
        &self.pairs
    }

    /// The number of bits that are pages.
    pub(crate) fn bits(&self) -> u64 {
        if self.flat {
            return self.end().div_ceil(self.page);
        }
        self.pairs.iter().map(|pair| self.pages(*pair)).sum()
    }

    /// Size of the bitset: a whole number of words of `long` bytes in versions with dump_avail, of
    /// bytes before.
    pub(crate) fn bitset_bytes(&self, long: u64) -> u64 {
        if self.flat {
            self.bits().div_ceil(8)
        } else {
            self.bits().div_ceil(8 * long) * long
        }
    }

    /// The bit of the page that contains `pa`.
    pub(crate) fn bit(&self, pa: u64) -> Option<u64> {
        if self.flat {
            return (pa < self.end()).then_some(pa / self.page);
        }
        let mut base = 0;
        for pair in &self.pairs {
            if (pair.0..pair.1).contains(&pa) {
                return Some(base + pa / self.page - pair.0 / self.page);
            }
            base += self.pages(*pair);
        }
        None
    }

    fn pages(&self, (start, end): (u64, u64)) -> u64 {
        end.div_ceil(self.page) - start / self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the format description: amd64 version 3, a PC with 4 GiB.
    fn example(flat: bool) -> Ranges {
        let pairs = vec![
            (0x1000, 0x9_f000),
            (0x10_0000, 0x7ffe_0000),
            (0x1_0000_0000, 0x1_8000_0000),
        ];
        Ranges::new(pairs, 0x1000, flat)
    }

    #[test]
    fn bits_match_the_format_descriptions_example() {
        let ranges = example(false);
        assert_eq!(ranges.bits(), 1_048_446);
        assert_eq!(ranges.bitset_bytes(8), 131_056);
        assert_eq!(ranges.bit(0x10_0000), Some(158));
        assert_eq!(ranges.bit(0x1_0000_0000), Some(524_158));
        assert_eq!(ranges.bit(0x1_7fff_ffff), Some(1_048_445));
    }

    #[test]
    fn address_outside_all_ranges_has_no_bit() {
        let ranges = example(false);
        for pa in [
            0,
            0xfff,
            0x9_f000,
            0xf_ffff,
            0x7ffe_0000,
            0xffff_ffff,
            0x1_8000_0000,
        ] {
            assert_eq!(ranges.bit(pa), None, "{pa:#x}");
        }
    }

    #[test]
    fn without_dump_avail_bits_are_frame_numbers() {
        let ranges = example(true);
        assert_eq!(ranges.bits(), 0x18_0000);
        assert_eq!(ranges.bit(0x1_0000_0000), Some(0x10_0000));
        assert_eq!(ranges.bit(0), Some(0));
        assert_eq!(ranges.bit(0x1_8000_0000), None);
    }

    #[test]
    fn partial_pages_of_a_range_have_bits() {
        let ranges = Ranges::new(vec![(0x1800, 0x3800), (0x5000, 0x5001)], 0x1000, false);
        assert_eq!(ranges.bits(), 4);
        assert_eq!(ranges.bit(0x5000), Some(3));
    }
}
