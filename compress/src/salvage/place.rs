//! Where frames belong whose predecessors are lost.
//!
//! Frames without anything unknown between them are a *segment*. The first segment begins where
//! the content does, and the last one ends where it does, if the stream has its end and somebody
//! knows how long the content was. With one unknown gap everything has its place. With more of
//! them, what lies between the first and the last has none: that two gaps have lost three frames
//! does not say which has lost two.

use crate::table::Frame;

/// A frame, as a walk has found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalkedFrame {
    /// Counted from 0, gaps counting as one.
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) stored_len: u32,
    /// As its header states it.
    pub(super) content_len: u32,
    /// Whether it decodes.
    pub(super) good: bool,
}

/// Frames of which each ends where the next begins.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) frames: Vec<WalkedFrame>,
    /// What it ended at, if that was not the end of the frames.
    pub(super) stopped: Option<String>,
}

impl Run {
    /// Where it ends in the stream.
    pub(super) fn end(&self) -> u64 {
        self.frames.last().map_or(self.start, WalkedFrame::end)
    }

    /// Content of its good frames.
    pub(super) fn content_len(&self) -> u64 {
        let good = self.frames.iter().filter(|f| f.good);
        good.map(|f| u64::from(f.content_len)).sum()
    }
}

/// Frames at their places.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) frames: Vec<Frame>,
    /// Content of good frames without a place.
    pub(super) unplaced: u64,
}

#[derive(Default)]
struct Segment {
    /// Good frames, and where each begins in the segment.
    frames: Vec<(u64, WalkedFrame)>,
    len: u64,
}

/// Gives every frame its place in content of `total` bytes, if that is known.
pub(super) fn frames(runs: &[Run], total: Option<u64>) -> Placed {
    let usual = runs
        .iter()
        .flat_map(|run| &run.frames)
        .find(|f| f.good)
        .map_or(0, |f| f.content_len);
    let segments = segments(runs, usual);
    let whole_end = runs.last().is_some_and(|run| run.stopped.is_none());
    let sum: u64 = segments.iter().map(|s| s.len).sum();
    // Whole frames were lost.
    let lost = total
        .filter(|_| whole_end)
        .and_then(|total| total.checked_sub(sum))
        .filter(|lost| usual > 0 && lost.is_multiple_of(usual.into()));
    let mut placed = Placed::default();
    let last = segments.len().saturating_sub(1);
    let mut at = 0;
    for (i, segment) in segments.into_iter().enumerate() {
        let start = match (i, lost) {
            (0, _) => Some(0),
            (_, Some(0)) => Some(at),
            (i, Some(lost)) if i == last => Some(sum + lost - segment.len),
            _ => None,
        };
        at += segment.len;
        let Some(start) = start else {
            let lens = segment.frames.iter().map(|(_, f)| u64::from(f.content_len));
            placed.unplaced += lens.sum::<u64>();
            continue;
        };
        let at_place = |(within, frame): &(u64, WalkedFrame)| Frame {
            content_offset: start + within,
            ..frame.listed()
        };
        placed.frames.extend(segment.frames.iter().map(at_place));
    }
    placed
}

/// Cuts runs where it is not known how much was lost: between them, and at frames that do not
/// decode and state another length than all others.
fn segments(runs: &[Run], usual: u32) -> Vec<Segment> {
    let mut segments = Vec::new();
    for run in runs {
        let mut segment = Segment::default();
        for frame in &run.frames {
            if frame.good {
                segment.frames.push((segment.len, *frame));
            } else if frame.content_len != usual {
                segments.push(std::mem::take(&mut segment));
                continue;
            }
            // Lengths of frames in a file, each far below 2^32.
            segment.len += u64::from(frame.content_len);
        }
        segments.push(segment);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 100 bytes; `.` is good, `x` is not, `?` is not and states another length.
    fn run(start: u64, what: &str, stopped: bool) -> Run {
        let frame = |(i, c): (usize, char)| WalkedFrame {
            number: i as u64,
            offset: start + i as u64,
            stored_len: 1,
            content_len: if c == '?' { 7 } else { 100 },
            good: c == '.',
        };
        Run {
            start,
            frames: what.chars().enumerate().map(frame).collect(),
            stopped: stopped.then(|| "damage".into()),
        }
    }

    fn places(runs: &[Run], total: Option<u64>) -> (Vec<u64>, u64) {
        let placed = frames(runs, total);
        let places = placed.frames.iter().map(|f| f.content_offset).collect();
        (places, placed.unplaced)
    }

    #[test]
    fn frames_that_kept_their_length_move_nothing() {
        let runs = [run(0, "..x.", false)];
        assert_eq!(places(&runs, None), (vec![0, 100, 300], 0));
        assert_eq!(places(&runs, Some(999)), (vec![0, 100, 300], 0));
    }

    #[test]
    fn behind_one_gap_the_length_of_the_whole_tells_the_place() {
        let runs = [run(0, "..", true), run(9, "..", false)];
        assert_eq!(places(&runs, None), (vec![0, 100], 200));
        assert_eq!(places(&runs, Some(700)), (vec![0, 100, 500, 600], 0));
        assert_eq!(places(&runs, Some(400)), (vec![0, 100, 200, 300], 0));
        // Not a whole number of frames, or less than there is: something else is wrong.
        assert_eq!(places(&runs, Some(450)), (vec![0, 100], 200));
        assert_eq!(places(&runs, Some(300)), (vec![0, 100], 200));
        let runs = [run(0, "..?.", false)];
        assert_eq!(places(&runs, Some(600)), (vec![0, 100, 500], 0));
    }

    #[test]
    fn between_two_gaps_nothing_has_a_place_unless_nothing_is_lost() {
        let runs = [run(0, ".", true), run(5, "..", true), run(9, ".", false)];
        assert_eq!(places(&runs, Some(700)), (vec![0, 600], 200));
        assert_eq!(places(&runs, Some(400)), (vec![0, 100, 200, 300], 0));
    }

    #[test]
    fn stream_that_lost_its_end_is_anchored_at_its_beginning_alone() {
        let runs = [run(0, ".", true), run(5, "..", true)];
        assert_eq!(places(&runs, Some(700)), (vec![0], 200));
    }
}
