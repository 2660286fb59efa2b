//! The bytes that have arrived, as ranges.

use std::ops::Range;

/// Maximum number of ranges of a dump, which use 64 KiB. A client sends at most 64 packets before it
/// waits, so that its dump has few.
pub const RANGES_MAX: usize = 4096;

/// Disjoint ranges in ascending order, at most [`RANGES_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// The ranges.
    pub fn list(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of the last range.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// The sum of their sizes.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether `range` is within one of them. An empty range is.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let next = self.0.partition_point(|have| have.end <= range.start);
        range.is_empty()
            || self
                .0
                .get(next)
                .is_some_and(|have| have.start <= range.start && range.end <= have.end)
    }

    /// Whether `range` can be added.
    pub fn has_space_for(&self, range: &Range<u64>) -> bool {
        let touched = self.touched(range);
        self.0.len() < RANGES_MAX || !touched.is_empty()
    }

    /// Adds `range`, and joins it with those that it overlaps or touches. Without effect if there is no
    /// space for it.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() || !self.has_space_for(&range) {
            return;
        }
        let touched = self.touched(&range);
        let joined = match self.0.get(touched.clone()).unwrap_or_default() {
            [] => range,
            [first, ..] => {
                let last = &self.0[touched.end - 1];
                first.start.min(range.start)..last.end.max(range.end)
            }
        };
        self.0.splice(touched, [joined]);
    }

    /// What is missing of the first `len` bytes.
    pub fn missing(&self, len: u64) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = 0;
        for have in self.0.iter().take_while(|have| have.start < len) {
            if at < have.start {
                missing.push(at..have.start);
            }
            at = have.end;
        }
        if at < len {
            missing.push(at..len);
        }
        missing
    }

    /// The indices of the ranges that overlap or touch `range`.
    fn touched(&self, range: &Range<u64>) -> Range<usize> {
        let first = self.0.partition_point(|have| have.end < range.start);
        let after = self.0.partition_point(|have| have.start <= range.end);
        first..after.max(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes in any order give the ranges of a set of bytes.
    #[test]
    fn ranges_are_those_of_the_set_of_bytes() {
        let mut seed = 1_u64;
        for _ in 0..300 {
            let (mut ranges, mut bytes) = (Ranges::default(), [false; 64]);
            for _ in 0..20 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let start = (seed >> 33) % 60;
                let range = start..start + (seed >> 40) % 5;
                let all = range.clone().all(|at| bytes[at as usize]);
                assert_eq!(ranges.covers(&range), all, "{range:?} in {ranges:?}");
                range.clone().for_each(|at| bytes[at as usize] = true);
                ranges.add(range);
                let of_set = |set: bool| {
                    let mut list: Vec<Range<u64>> = Vec::new();
                    for at in (0..64).filter(|at| bytes[*at as usize] == set) {
                        match list.last_mut() {
                            Some(last) if last.end == at => last.end += 1,
                            _ => list.push(at..at + 1),
                        }
                    }
                    list
                };
                assert_eq!(ranges.list(), of_set(true));
                assert_eq!(ranges.missing(64), of_set(false));
                assert_eq!(ranges.total(), bytes.iter().filter(|b| **b).count() as u64);
            }
        }
    }

    #[test]
    fn a_full_list_takes_only_ranges_that_touch_others() {
        let mut ranges = Ranges::default();
        for n in 0..RANGES_MAX as u64 {
            ranges.add(n * 10..n * 10 + 1);
        }
        assert!(!ranges.has_space_for(&(5..6)));
        let before = ranges.clone();
        ranges.add(5..6);
        assert_eq!(ranges, before);
        ranges.add(1..2);
        ranges.add(2..10);
        assert_eq!(ranges.list()[0], 0..11);
        assert_eq!(ranges.list().len(), RANGES_MAX - 1);
    }
}
