//! Sets of addresses stored as intervals, each with a label.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint intervals, each with the label that was added first.
pub(crate) struct Intervals<T> {
    /// By start: end and label.
    map: BTreeMap<u64, (u64, T)>,
}

impl<T: Copy + PartialEq> Intervals<T> {
    /// Creates an empty set.
    pub(crate) fn new() -> Self {
        Self {
            map: BTreeMap::new(),
        }
    }

    /// Adds the part of `range` that is not yet in the set.
    pub(crate) fn add(&mut self, range: Range<u64>, label: T) {
        let mut at = range.start;
        while at < range.end {
            if let Some((_, &(end, _))) = self.map.range(..=at).next_back()
                && end > at
            {
                at = end;
                continue;
            }
            let next = self.map.range(at..).next().map_or(u64::MAX, |(&s, _)| s);
            let end = next.min(range.end);
            self.map.insert(at, (end, label));
            at = end;
        }
    }

    /// Returns the intervals in ascending order. Adjacent ones with the same label are joined.
    pub(crate) fn merged(&self) -> Vec<(Range<u64>, T)> {
        let mut out: Vec<(Range<u64>, T)> = Vec::new();
        for (&start, &(end, label)) in &self.map {
            match out.last_mut() {
                Some((last, of)) if last.end == start && *of == label => last.end = end,
                _ => out.push((start..end, label)),
            }
        }
        out
    }
}

/// Returns the intersection of `range` with each of `others`, which ascend.
pub(crate) fn within(range: &Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let first = others.partition_point(|other| other.end <= range.start);
    others[first..]
        .iter()
        .take_while(|other| other.start < range.end)
        .map(|other| other.start.max(range.start)..other.end.min(range.end))
        .collect()
}

/// Returns the parts of `range` that are in none of `others`, which ascend.
pub(crate) fn without(range: &Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut at = range.start;
    let mut out = Vec::new();
    for hole in within(range, others) {
        if at < hole.start {
            out.push(at..hole.start);
        }
        at = hole.end;
    }
    if at < range.end {
        out.push(at..range.end);
    }
    out
}
