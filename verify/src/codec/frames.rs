//! Code shared by the walks over zstd frames and gzip members.

use super::buffers::Buffers;
use super::content::Context;
use super::walked::{Malformed, Walked};
use crate::container::Layout;
use crate::facts::Container;
use crate::finding::{Location, Region};
use crate::probe;
use crate::report::Stop;
use crate::rule::Rule;
use crate::rules;

/// The names of a codec's frames in findings.
pub(super) struct Words {
    /// `zstd frame`
    pub(super) frame: &'static str,
    /// `zstd stream`
    pub(super) stream: &'static str,
    /// `frames`
    pub(super) frames: &'static str,
    /// A description of what a kernel writes.
    pub(super) one: &'static str,
    /// The rule that a malformed frame breaks.
    pub(super) malformed: &'static Rule,
}

/// A walk over frames; `L` describes a frame that is too large for a worker.
pub(super) struct Frames<'a, 'b, L> {
    words: &'static Words,
    pub(super) container: Container,
    /// Offset of the next frame.
    pub(super) at: u64,
    /// Upper bound of the stream's end.
    pub(super) limit: u64,
    pub(super) walked: Walked,
    pub(super) large: Option<L>,
    malformed: Option<Malformed>,
    pub(super) ended: bool,
    pub(super) buffers: Buffers,
    pub(super) cx: &'a mut Context<'b>,
}

impl<'a, 'b, L> Frames<'a, 'b, L> {
    /// A walk over the payload of `layout`.
    pub(super) fn new(layout: &Layout, words: &'static Words, cx: &'a mut Context<'b>) -> Self {
        Self {
            words,
            container: layout.container,
            at: layout.start,
            limit: layout.end,
            walked: Walked::new(layout.start),
            large: None,
            malformed: None,
            ended: false,
            buffers: cx.buffers(),
            cx,
        }
    }

    /// The region of the next frame.
    pub(super) fn region(&self) -> Region<'static> {
        Region::Nth(self.words.frame, self.walked.frames)
    }

    /// The region of the frame counted last.
    pub(super) fn this_region(&self) -> Region<'static> {
        Region::Nth(self.words.frame, self.walked.frames.saturating_sub(1))
    }

    /// Counts a frame that begins at `at`.
    pub(super) fn count(&mut self, at: u64) {
        self.walked.mark(at, self.cx.options.memory);
        self.walked.frames += 1;
    }

    /// Ends the walk at `at`.
    pub(super) fn end(&mut self, at: u64) {
        self.ended = true;
        self.walked.end = at;
    }

    /// Ends the walk at a malformed frame.
    pub(super) fn malformed(&mut self, malformed: Malformed) {
        self.walked.lose();
        self.end(malformed.at);
        self.malformed = Some(malformed);
    }

    /// Applies the rules about the whole stream. If the walk did not reach a seal, searches for one
    /// from the end of the file.
    pub(super) fn finish(mut self, layout: &Layout) -> Result<Walked, Stop> {
        // The region's number is known only now that all frames before it are counted.
        if let Some(malformed) = self.malformed.take() {
            let place = Location::file(self.region(), malformed.at);
            let bytes = self.cx.input.up_to(malformed.at, 32)?;
            self.cx.sink.broken(self.words.malformed, &place, |f| {
                f.found(malformed.found)
                    .expected(malformed.expected)
                    .bytes(malformed.at, &bytes)
            });
        }
        let Self {
            words,
            mut walked,
            cx,
            ..
        } = self;
        if layout.container == Container::Raw && walked.complete {
            let place = Location::file(words.stream, layout.start);
            let one = walked.frames == 1;
            cx.sink.check(&rules::CODEC_SINGLE, one, &place, |f| {
                f.found(format!("{} {}", walked.frames, words.frames))
                    .expected(words.one)
            });
        }
        if layout.container == Container::Saved && walked.seal.is_none() {
            walked.seal = probe::seal_of(cx.input, layout.codec)?;
        }
        Ok(walked)
    }
}
