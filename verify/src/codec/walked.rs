//! What a walk over frames finds.

use xxhash_rust::xxh64::xxh64;

use crate::report::Stop;

/// Most stored bytes of a frame that is decoded whole.
pub(super) const STORED_MAX: u64 = 64 << 20;
/// Most content bytes of a frame that is decoded whole.
pub(super) const CONTENT_MAX: u64 = 64 << 20;
/// Bytes read and decoded at a time where frames are not.
pub(super) const PIECE: usize = 128 << 10;
/// Content between two marks.
pub(super) const MARK_EVERY: u64 = 1 << 20;

/// What is met where a frame could begin, looks like one, and is none.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) at: u64,
    pub(super) found: String,
    pub(super) expected: String,
}

/// What a seal's index says of one frame, derived from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) stored_len: u32,
    /// Low half of the content's XXH64; of gzip its CRC-32.
    pub(crate) content_check: u32,
    /// High half of the XXH64 of the frame as it is stored.
    pub(crate) stored_check: u32,
    /// Bytes of content.
    pub(crate) content_len: u32,
}

/// A frame that can be decoded again: where it is stored and where its content begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) stored: u64,
    pub(crate) content: u64,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Data frames.
    pub(crate) frames: u64,
    /// Where the data frames end.
    pub(crate) end: u64,
    /// Where a seal begins, if the file has one.
    pub(crate) seal: Option<u64>,
    /// Each data frame, as a seal's index has it; empty where frames were too large for that.
    pub(crate) derived: Vec<Derived>,
    /// Frames at which decoding can begin, at least [`MARK_EVERY`] bytes of content apart, and
    /// farther where they would become too many.
    pub(crate) marks: Vec<Mark>,
    /// Bytes of content between two marks; 0 stands for [`MARK_EVERY`].
    mark_every: u64,
    /// Bytes of content, gaps included.
    pub(crate) content_len: u64,
    /// Whether every frame was there and could be decoded, so that `content_len` is true.
    pub(crate) whole: bool,
    /// Whether a frame that was not decoded does not say how much content it has: `content_len` is
    /// then not known.
    unmeasured: bool,
    /// Bytes of content of the first frame, and whether each of the others says that it has as many.
    uniform: Option<(u64, bool)>,
    /// Whether a frame is damaged or cut.
    damaged: bool,
    /// Whether every frame was walked: `--quick` cannot walk gzip members that do not say their
    /// length.
    pub(crate) complete: bool,
    /// Whether every gzip member says how long it is.
    pub(crate) said: bool,
    /// The first gzip member that does not say how long it is; every one of a sealed file does.
    pub(crate) unsaid: Option<u64>,
    /// Whether frames were walked without being decoded, as `--quick` does behind the sections.
    pub(crate) skimmed: bool,
}

impl Walked {
    pub(super) fn new(start: u64) -> Self {
        Self {
            end: start,
            whole: true,
            complete: true,
            ..Self::default()
        }
    }

    /// Whether `content_len` is true: every frame was decoded, or says how much it has.
    pub(crate) fn is_measured(&self) -> bool {
        !self.unmeasured && (self.whole || self.skimmed && !self.damaged)
    }

    /// Whether there are several frames and all of them, the last one too, have as much content:
    /// what a stream that was cut behind a frame looks like.
    pub(crate) fn is_uniform(&self) -> bool {
        self.frames > 1 && self.uniform.is_some_and(|(_, all)| all)
    }

    /// Something could not be had.
    pub(super) fn lose(&mut self) {
        self.whole = false;
        self.damaged = true;
    }

    /// Adds the content of one frame; of one that is stepped over, what it says, if it says it.
    pub(super) fn add(&mut self, content: Option<u64>) {
        match content {
            Some(len) => self.content_len = self.content_len.saturating_add(len),
            None => self.unmeasured = true,
        }
        let (first, all) = self
            .uniform
            .unwrap_or((content.unwrap_or(0), content.is_some()));
        self.uniform = Some((first, all && content == Some(first)));
    }

    /// Notes that a frame begins here; marks take an eighth of `memory` at most.
    pub(super) fn mark(&mut self, stored: u64, memory: u64) {
        let content = self.content_len;
        let every = self.mark_every.max(MARK_EVERY);
        let far = self
            .marks
            .last()
            .is_none_or(|last| content >= last.content.saturating_add(every));
        if !far {
            return;
        }
        // A vector that grows may have twice the room that it needs.
        let most = memory / 16 / size_of::<Mark>() as u64;
        if self.marks.len() as u64 >= most.max(2) {
            let mut even = false;
            self.marks.retain(|_| {
                even = !even;
                even
            });
            self.mark_every = every.saturating_mul(2);
        }
        self.marks.push(Mark { stored, content });
    }

    /// Keeps what the index of a seal would say, while that is bounded.
    pub(super) fn derive(&mut self, memory: u64, derived: Derived) -> Result<(), Stop> {
        let needed = (self.derived.len() as u64 + 1) * size_of::<Derived>() as u64;
        if needed > memory / 4 {
            return Err(Stop::Failed(format!(
                "{} frames need more memory than the limit of {memory} bytes allows",
                self.frames
            )));
        }
        self.derived.push(derived);
        Ok(())
    }
}

/// The high half of the XXH64 of a frame as it is stored.
pub(super) fn stored_check(bytes: &[u8]) -> u32 {
    (xxh64(bytes, 0) >> 32) as u32
}
