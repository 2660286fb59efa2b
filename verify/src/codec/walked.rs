//! The result of a frame walk.

use xxhash_rust::xxh64::xxh64;

use crate::report::Stop;

/// Maximum stored size of a frame that a worker decodes.
pub(super) const STORED_MAX: u64 = 64 << 20;
/// Maximum content size of a frame that a worker decodes.
pub(super) const CONTENT_MAX: u64 = 64 << 20;
/// Number of bytes read and decoded at a time in larger frames.
pub(super) const PIECE: usize = 128 << 10;
/// Minimum content between two marks.
pub(super) const MARK_EVERY: u64 = 1 << 20;

/// An invalid frame or member, with the magic of a valid one.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) at: u64,
    pub(super) found: String,
    pub(super) expected: String,
}

/// The index entry of a frame, computed from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) stored_len: u32,
    /// Low half of the content's XXH64; for gzip the content's CRC-32.
    pub(crate) content_check: u32,
    /// High half of the XXH64 of the stored frame.
    pub(crate) stored_check: u32,
    /// Size of the content.
    pub(crate) content_len: u32,
}

/// A frame at which decoding can begin: its file offset, and the offset of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) stored: u64,
    pub(crate) content: u64,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Number of data frames.
    pub(crate) frames: u64,
    /// End of the data frames.
    pub(crate) end: u64,
    /// Start of the seal, if the file has one.
    pub(crate) seal: Option<u64>,
    /// The index entry of each data frame; fewer than `frames` if a frame was too large for a worker.
    pub(crate) derived: Vec<Derived>,
    /// Frames at which decoding can begin, at least [`MARK_EVERY`] bytes of content apart; farther
    /// apart where they would use too much memory.
    pub(crate) marks: Vec<Mark>,
    /// Minimum content between two marks; 0 means [`MARK_EVERY`].
    mark_every: u64,
    /// Length of the content, including gaps.
    pub(crate) content_len: u64,
    /// Whether all frames were decoded, so that `content_len` is right.
    pub(crate) whole: bool,
    /// Whether a frame that was not decoded does not state its content length, so that
    /// `content_len` is too small.
    unmeasured: bool,
    /// Content length of the first frame, and whether all others have the same.
    uniform: Option<(u64, bool)>,
    /// Whether a frame is damaged or cut.
    damaged: bool,
    /// Whether every frame was walked: `--quick` cannot walk gzip members without a stated length.
    pub(crate) complete: bool,
    /// Whether every gzip member states its length.
    pub(crate) has_lengths: bool,
    /// The first gzip member that does not state its length; all members of a sealed file do.
    pub(crate) without_length: Option<u64>,
    /// Whether frames were skipped without decoding them, as `--quick` does after the sections.
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

    /// Whether `content_len` is right: every frame was decoded or states its content length.
    pub(crate) fn is_measured(&self) -> bool {
        !self.unmeasured && (self.whole || self.skimmed && !self.damaged)
    }

    /// Whether there are several frames and all, including the last, have the same content length.
    /// A stream that was truncated after a frame looks like this.
    pub(crate) fn is_uniform(&self) -> bool {
        self.frames > 1 && self.uniform.is_some_and(|(_, all)| all)
    }

    /// Records that a frame is damaged or cut.
    pub(super) fn lose(&mut self) {
        self.whole = false;
        self.damaged = true;
    }

    /// Adds the content length of a frame; `None` if it is unknown.
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

    /// Marks a frame at `stored`, within an eighth of `memory`.
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
        // A growing vector may have twice the capacity that it needs.
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

    /// Stores the index entry of a frame, within a quarter of `memory`.
    pub(super) fn derive(&mut self, memory: u64, derived: Derived) -> Result<(), Stop> {
        let needed = (self.derived.len() as u64 + 1) * size_of::<Derived>() as u64;
        if needed > memory / 4 {
            return Err(Stop::Failed(format!(
                "{} frames need more memory than the limit of {memory} bytes; raise --memory",
                self.frames
            )));
        }
        self.derived.push(derived);
        Ok(())
    }
}

/// The high half of the XXH64 of a stored frame.
pub(super) fn stored_check(bytes: &[u8]) -> u32 {
    (xxh64(bytes, 0) >> 32) as u32
}
