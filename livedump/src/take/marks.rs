//! `vm_page_dump` under construction.

use std::ops::Range;

use livecore_minidump::{Bitmap, DumpAvail, PhysAddr};

use super::error::TakeError;

/// The pages of a dump as bits over `dump_avail`. Other addresses are ignored, as the kernel's
/// `dump_add_page` does.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    ranges: DumpAvail,
    words: Vec<u64>,
    page: u64,
}

impl Marks {
    /// No pages.
    pub(super) fn new(ranges: DumpAvail, page: u64) -> Result<Self, TakeError> {
        // The limit of a bitmap's ranks; 512 MiB of memory.
        if ranges.bits() > u64::from(u32::MAX) {
            return Err(TakeError::Unsupported {
                what: format!("dump_avail of {} pages", ranges.bits()),
            });
        }
        Ok(Self {
            words: vec![0; ranges.bits().div_ceil(64) as usize],
            ranges,
            page,
        })
    }

    pub(super) fn ranges(&self) -> &DumpAvail {
        &self.ranges
    }

    /// The bits of the complete pages in `pages`, at most one run for each range.
    fn runs(&self, pages: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<'_> {
        let page = self.page;
        let ranges = self.ranges.ranges();
        let first = ranges.partition_point(|s| s.end.0 <= pages.start);
        ranges[first..]
            .iter()
            .take_while(move |s| s.start.0 < pages.end)
            .filter_map(move |s| {
                let from = pages.start.max(s.start.0).div_ceil(page);
                let to = pages.end.min(s.end.0).div_ceil(page);
                // The page of a range's first byte is `start / page`; its bit is the first one.
                let bit = |number: u64| s.first_bit + (number - s.start.0 / page);
                (from < to).then(|| bit(from)..bit(to))
            })
    }

    fn change(&mut self, pages: Range<u64>, change: impl Fn(&mut u64, u64)) {
        let runs = self.runs(pages).collect::<Vec<_>>();
        for run in runs {
            let mut bit = run.start;
            while bit < run.end {
                let n = (64 - bit % 64).min(run.end - bit);
                let mask = u64::MAX >> (64 - n) << (bit % 64);
                // The bits of a run are below `ranges.bits()`, the size of `words`.
                change(&mut self.words[(bit / 64) as usize], mask);
                bit += n;
            }
        }
    }

    /// Adds the pages that begin in `pages`.
    pub(super) fn add(&mut self, pages: Range<u64>) {
        self.change(pages, |word, mask| *word |= mask);
    }

    /// Removes the pages that begin in `pages`.
    pub(super) fn remove(&mut self, pages: Range<u64>) {
        self.change(pages, |word, mask| *word &= !mask);
    }

    /// Replaces the words from `first` on with those of a kernel.
    pub(super) fn load(&mut self, first: usize, words: impl Iterator<Item = u64>) {
        for (mine, word) in self.words.iter_mut().skip(first).zip(words) {
            *mine = word;
        }
        let bits = self.ranges.bits();
        if let Some(last) = self.words.last_mut()
            && !bits.is_multiple_of(64)
        {
            *last &= (1 << (bits % 64)) - 1;
        }
    }

    /// Removes the pages for which `keep` returns `false`.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        for segment in self.ranges.ranges() {
            let first_page = segment.start.0 / self.page;
            let mut bit = segment.first_bit;
            let end = segment.first_bit + segment.pages;
            while bit < end {
                let n = (64 - bit % 64).min(end - bit);
                let mask = u64::MAX >> (64 - n) << (bit % 64);
                let word = &mut self.words[(bit / 64) as usize];
                let mut left = *word & mask;
                while left != 0 {
                    let index = u64::from(left.trailing_zeros());
                    left &= left - 1;
                    let number = bit - bit % 64 + index;
                    if !keep((first_page + number - segment.first_bit) * self.page) {
                        *word &= !(1 << index);
                    }
                }
                bit += n;
            }
        }
    }

    /// Up to `count` of the pages that begin in `pages`, evenly spread.
    pub(super) fn sample(&self, pages: Range<u64>, count: u64) -> Vec<u64> {
        let bits = || {
            self.runs(pages.clone()).flat_map(|run| {
                let words = run.start / 64..run.end.div_ceil(64);
                words.flat_map(move |word| {
                    let mut left = self.words[word as usize];
                    std::iter::from_fn(move || {
                        let bit = word * 64 + u64::from(left.trailing_zeros());
                        (left != 0).then(|| left &= left - 1)?;
                        Some(bit)
                    })
                    .filter({
                        let run = run.clone();
                        move |bit| run.contains(bit)
                    })
                })
            })
        };
        let step = (bits().count() as u64).div_ceil(count.max(1)).max(1);
        let ranges = self.ranges.ranges();
        bits()
            .step_by(step as usize)
            .filter_map(|bit| {
                let segment = ranges.partition_point(|s| s.first_bit <= bit);
                let segment = ranges.get(segment.checked_sub(1)?)?;
                Some((segment.start.0 / self.page + bit - segment.first_bit) * self.page)
            })
            .collect()
    }

    /// Removes pages outside of `ranges`, which are sorted.
    pub(super) fn keep_within(&mut self, ranges: &[Range<PhysAddr>]) {
        let mut end = 0;
        for range in ranges {
            self.remove(end..range.start.0);
            end = range.end.0;
        }
        self.remove(end..u64::MAX);
    }

    /// The same pages with the bits of another `dump_avail`.
    pub(super) fn over(mut self, ranges: DumpAvail) -> Result<Self, TakeError> {
        let mut other = Self::new(ranges, self.page)?;
        let page_size = self.page;
        self.retain(|page| {
            other.add(page..page + page_size);
            true
        });
        Ok(other)
    }

    /// The number of pages.
    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// The bitmap of a dump.
    pub(super) fn into_bitmap(self) -> Result<Bitmap, TakeError> {
        let bits = self.ranges.bits();
        Bitmap::from_words(self.words, bits).map_err(|e| TakeError::Unsupported {
            what: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        let ranges = [
            PhysAddr(0x1000)..PhysAddr(0x9000),
            PhysAddr(0x10_0000)..PhysAddr(0x18_0000),
        ];
        Marks::new(DumpAvail::from_ranges(&ranges, 4096).unwrap(), 4096).unwrap()
    }

    fn pages(marks: &Marks) -> Vec<u64> {
        let mut all = Vec::new();
        marks.clone().retain(|page| {
            all.push(page);
            true
        });
        all
    }

    #[test]
    fn pages_outside_of_dump_avail_are_ignored() {
        let mut m = marks();
        m.add(0..0x2000);
        m.add(0x8000..0x10_2000);
        m.add(0x17_f000..u64::MAX);
        assert_eq!(pages(&m), [0x1000, 0x8000, 0x10_0000, 0x10_1000, 0x17_f000]);
        assert_eq!(m.count(), 5);
        m.remove(0x10_1000..0x18_0000);
        m.retain(|page| page != 0x1000);
        assert_eq!(pages(&m), [0x8000, 0x10_0000]);
    }

    #[test]
    fn sample_is_spread_over_the_marked_pages() {
        let mut m = marks();
        m.add(0x2000..0x5000);
        m.add(0x10_0000..0x11_0000);
        assert_eq!(m.sample(0..u64::MAX, 2), [0x2000, 0x10_7000]);
        assert_eq!(m.sample(0x3000..0x10_1000, 8), [0x3000, 0x4000, 0x10_0000]);
        assert_eq!(m.sample(0x5000..0x9000, 8), [0; 0]);
    }

    #[test]
    fn bits_follow_dump_avail() {
        let mut m = marks();
        m.add(0x10_0000..0x10_1000);
        m.add(0x17_f000..0x18_0000);
        let bitmap = m.into_bitmap().unwrap();
        assert_eq!(bitmap.iter().collect::<Vec<_>>(), [8, 135]);
        assert_eq!(bitmap.bits(), 136);
    }

    #[test]
    fn bits_after_the_last_page_are_ignored() {
        let mut m = marks();
        m.load(0, std::iter::repeat(u64::MAX));
        assert_eq!(m.count(), 136);
    }

    #[test]
    fn partial_first_page_of_a_range_is_never_added() {
        let ranges = DumpAvail::from_ranges(&[PhysAddr(0x1800)..PhysAddr(0x4000)], 4096).unwrap();
        let mut m = Marks::new(ranges, 4096).unwrap();
        m.add(0..u64::MAX);
        assert_eq!(pages(&m), [0x2000, 0x3000]);
    }
}
