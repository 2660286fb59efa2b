//! The context of a frame walk, and the destination of the content.

use livecore_compress::Progress;

use super::buffers::Buffers;
use crate::finding::Sink;
use crate::input::Input;
use crate::options::{Depth, Options};
use crate::report::Stop;

/// Receives the content that a walk decodes, in order.
pub(crate) trait Content {
    /// Sets an upper bound of the content's length.
    fn expect_len(&mut self, len: u64);

    /// Sets the exact length of the content.
    fn expect_exactly(&mut self, len: u64);

    /// The length computed from the content's headers.
    fn formula(&self) -> Option<u64>;

    /// Offset of the next byte that is needed; `None` if no more are.
    fn wants(&self) -> Option<u64>;

    /// Continues at `at`, the result of [`Content::wants`].
    fn skip_to(&mut self, at: u64);

    /// Number of consecutive bytes needed at [`Content::wants`].
    fn stretch(&self) -> usize;

    /// Whether everything that `--quick` checks was received, or nothing more will be.
    fn has_sections(&self) -> bool;

    /// Receives the next bytes.
    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Stop>;

    /// Skips `len` bytes that could not be decoded; `None` if nothing more can be.
    fn gap(&mut self, len: Option<u64>, sink: &mut Sink);
}

/// The context of a walk.
pub(crate) struct Context<'a> {
    pub(crate) input: &'a Input,
    pub(crate) options: &'a Options<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) sink: &'a mut Sink,
    pub(crate) intake: &'a mut dyn Content,
}

impl Context<'_> {
    pub(super) fn quick(&self) -> bool {
        self.options.depth == Depth::Quick
    }

    /// Reports progress by `content` and `stored` bytes. Fails if the caller cancelled.
    pub(super) fn advance(&self, content: u64, stored: u64) -> Result<(), Stop> {
        self.progress.advance(content, stored);
        if self.progress.cancelled() {
            return Err(Stop::Failed("cancelled".into()));
        }
        Ok(())
    }

    /// Memory limit for frames being decoded.
    pub(super) fn frame_memory(&self) -> u64 {
        self.options.memory / 4
    }

    pub(super) fn buffers(&self) -> Buffers {
        Buffers::new(self.options.memory)
    }
}
