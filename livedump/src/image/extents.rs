//! Parts of a file.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint parts of a file. Adjacent ones are merged.
#[derive(Debug, Default)]
pub(super) struct Extents(BTreeMap<u64, u64>);

impl Extents {
    /// Adds a part.
    pub(super) fn add(&mut self, part: Range<u64>) {
        let Range { mut start, mut end } = part;
        // All parts that overlap or touch it are before its end, the last ones first.
        while let Some((&first, &last)) = self.0.range(..=end).next_back() {
            if last < start {
                break;
            }
            self.0.remove(&first);
            start = start.min(first);
            end = end.max(last);
        }
        self.0.insert(start, end);
    }

    /// The number of parts.
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Whether one part contains all of `range`.
    pub(super) fn contain(&self, range: Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        range.is_empty() || before.is_some_and(|(_, end)| *end >= range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_merged_in_any_order() {
        let mut parts = Extents::default();
        for part in [10..20, 40..50, 20..25, 30..40, 12..14] {
            parts.add(part);
        }
        assert_eq!(parts.0, BTreeMap::from([(10, 25), (30, 50)]));
        for (range, is_part) in [
            (10..25, true),
            (30..50, true),
            (24..26, false),
            (9..11, false),
            (49..51, false),
            (60..61, false),
            (27..27, true),
        ] {
            assert_eq!(parts.contain(range.clone()), is_part, "{range:?}");
        }
        parts.add(0..100);
        assert_eq!(parts.0, BTreeMap::from([(0, 100)]));
        assert_eq!(parts.len(), 1);
    }
}
