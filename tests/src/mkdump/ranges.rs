//! dump_avail: which physical page has which bit.

/// Pairs of physical addresses `[start, end)`, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    pairs: Vec<(u64, u64)>,
    page: u64,
    /// Without a dump_avail section bits count page frames from 0.
    flat: bool,
}

impl Ranges {
    /// Ranges of pages of `page` bytes. `flat` is the numbering before dump_avail was dumped.
    pub(crate) fn new(pairs: Vec<(u64, u64)>, page: u64, flat: bool) -> Self {
        Ranges { pairs, page, flat }
    }

    /// Whether a physical address lies in a range.
    pub(crate) fn contains(&self, pa: u64) -> bool {
        self.pairs
            .iter()
            .any(|(start, end)| (*start..*end).contains(&pa))
    }

    /// End of the last range, 0 without ranges.
    pub(crate) fn end(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.1).max().unwrap_or(0)
    }

    /// The pairs themselves.
    pub(crate) fn pairs(&self) -> &[(u64, u64)] {
        &self.pairs
    }

    /// How many bits stand for pages.
    pub(crate) fn bits(&self) -> u64 {
        if self.flat {
            return self.end().div_ceil(self.page);
        }
        self.pairs.iter().map(|pair| self.pages(*pair)).sum()
    }

    /// Bytes of the bitset for words of `long` bytes: whole words from version with
    /// dump_avail, whole bytes before.
    pub(crate) fn bitset_bytes(&self, long: u64) -> u64 {
        if self.flat {
            self.bits().div_ceil(8)
        } else {
            self.bits().div_ceil(8 * long) * long
        }
    }

    /// The bit of the page that holds `pa`.
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

    /// The worked example for amd64 version 3: a PC with 4 GiB.
    fn example(flat: bool) -> Ranges {
        let pairs = vec![
            (0x1000, 0x9_f000),
            (0x10_0000, 0x7ffe_0000),
            (0x1_0000_0000, 0x1_8000_0000),
        ];
        Ranges::new(pairs, 0x1000, flat)
    }

    #[test]
    fn the_worked_example_has_its_bits() {
        let ranges = example(false);
        assert_eq!(ranges.bits(), 1_048_446);
        assert_eq!(ranges.bitset_bytes(8), 131_056);
        assert_eq!(ranges.bit(0x10_0000), Some(158));
        assert_eq!(ranges.bit(0x1_0000_0000), Some(524_158));
        assert_eq!(ranges.bit(0x1_7fff_ffff), Some(1_048_445));
    }

    #[test]
    fn an_address_in_a_hole_has_no_bit() {
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
    fn before_dump_avail_a_bit_is_a_page_frame() {
        let ranges = example(true);
        assert_eq!(ranges.bits(), 0x18_0000);
        assert_eq!(ranges.bit(0x1_0000_0000), Some(0x10_0000));
        assert_eq!(ranges.bit(0), Some(0));
        assert_eq!(ranges.bit(0x1_8000_0000), None);
    }

    #[test]
    fn ranges_that_cut_pages_count_whole_ones() {
        let ranges = Ranges::new(vec![(0x1800, 0x3800), (0x5000, 0x5001)], 0x1000, false);
        assert_eq!(ranges.bits(), 4);
        assert_eq!(ranges.bit(0x5000), Some(3));
    }
}
