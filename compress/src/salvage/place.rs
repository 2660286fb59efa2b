//! The content offsets of frames after lost ones.
//!
//! Frames without unknown gaps between them are a *segment*. The first segment begins at the
//! beginning of the content. The last one ends at its end, if the end of the stream is intact and the
//! content length is known. With one unknown gap all offsets are therefore known. With several, the
//! segments between them have no known offset: it is known how many frames were lost in total, but
//! not how many in each gap.

use crate::table::Frame;

/// A frame found by a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalkedFrame {
    /// Number, from 0; a gap counts as one frame.
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) stored_len: u32,
    /// Content length, from its header.
    pub(super) content_len: u32,
    /// Whether it decodes.
    pub(super) good: bool,
}

/// Contiguous frames.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) frames: Vec<WalkedFrame>,
    /// A description of what follows the run, unless it is the end of the frames.
    pub(super) stopped: Option<String>,
}

impl Run {
    /// End of the run in the stream.
    pub(super) fn end(&self) -> u64 {
        self.frames.last().map_or(self.start, WalkedFrame::end)
    }

    /// Content size of its good frames.
    pub(super) fn content_len(&self) -> u64 {
        let good = self.frames.iter().filter(|f| f.good);
        good.map(|f| u64::from(f.content_len)).sum()
    }
}

/// Frames with their content offsets.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) frames: Vec<Frame>,
    /// Content size of good frames with an unknown offset.
    pub(super) unplaced: u64,
}

#[derive(Default)]
struct Segment {
    /// Good frames with their content offsets in the segment.
    frames: Vec<(u64, WalkedFrame)>,
    len: u64,
}

/// Computes the content offset of every frame, in content of `total` bytes if that is known.
pub(super) fn frames(runs: &[Run], total: Option<u64>) -> Placed {
    let usual = runs
        .iter()
        .flat_map(|run| &run.frames)
        .find(|f| f.good)
        .map_or(0, |f| f.content_len);
    let segments = segments(runs, usual);
    let whole_end = runs.last().is_some_and(|run| run.stopped.is_none());
    let sum: u64 = segments.iter().map(|s| s.len).sum();
    // Only whole frames can be lost.
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
        let with_offset = |(within, frame): &(u64, WalkedFrame)| Frame {
            content_offset: start + within,
            ..frame.listed()
        };
        placed.frames.extend(segment.frames.iter().map(with_offset));
    }
    placed
}

/// Divides runs into segments at gaps of unknown size: between runs, and at frames that do not decode
/// and state an unusual content length.
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
            // No overflow: each length is below 2^32.
            segment.len += u64::from(frame.content_len);
        }
        segments.push(segment);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 100 bytes: `.` is good, `x` is damaged, `?` is damaged and states another length.
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

    fn offsets(runs: &[Run], total: Option<u64>) -> (Vec<u64>, u64) {
        let placed = frames(runs, total);
        let offsets = placed.frames.iter().map(|f| f.content_offset).collect();
        (offsets, placed.unplaced)
    }

    #[test]
    fn damaged_frames_of_the_usual_length_change_no_offsets() {
        let runs = [run(0, "..x.", false)];
        assert_eq!(offsets(&runs, None), (vec![0, 100, 300], 0));
        assert_eq!(offsets(&runs, Some(999)), (vec![0, 100, 300], 0));
    }

    #[test]
    fn the_total_length_gives_the_offsets_after_one_gap() {
        let runs = [run(0, "..", true), run(9, "..", false)];
        assert_eq!(offsets(&runs, None), (vec![0, 100], 200));
        assert_eq!(offsets(&runs, Some(700)), (vec![0, 100, 500, 600], 0));
        assert_eq!(offsets(&runs, Some(400)), (vec![0, 100, 200, 300], 0));
        // Not a whole number of frames, or less than the good frames have.
        assert_eq!(offsets(&runs, Some(450)), (vec![0, 100], 200));
        assert_eq!(offsets(&runs, Some(300)), (vec![0, 100], 200));
        let runs = [run(0, "..?.", false)];
        assert_eq!(offsets(&runs, Some(600)), (vec![0, 100, 500], 0));
    }

    #[test]
    fn frames_between_two_gaps_have_no_offset_unless_nothing_is_lost() {
        let runs = [run(0, ".", true), run(5, "..", true), run(9, ".", false)];
        assert_eq!(offsets(&runs, Some(700)), (vec![0, 600], 200));
        assert_eq!(offsets(&runs, Some(400)), (vec![0, 100, 200, 300], 0));
    }

    #[test]
    fn without_the_end_of_the_stream_only_the_first_segment_has_offsets() {
        let runs = [run(0, ".", true), run(5, "..", true)];
        assert_eq!(offsets(&runs, Some(700)), (vec![0], 200));
    }
}
