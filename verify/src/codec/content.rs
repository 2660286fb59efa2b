//! What a walk works with, and where the content goes.

use livecore_compress::Progress;

use super::buffers::Buffers;
use crate::finding::Sink;
use crate::input::Input;
use crate::options::{Depth, Options};
use crate::report::Stop;

/// Takes the content that a walk decodes, in order.
pub(crate) trait Content {
    /// Says how long the content is.
    fn expect_len(&mut self, len: u64);

    /// Says how long the content is to the byte.
    fn expect_exactly(&mut self, len: u64);

    /// The length that the content's own headers give.
    fn formula(&self) -> Option<u64>;

    /// Where the next byte that is needed lies, if any is.
    fn wants(&self) -> Option<u64>;

    /// Goes on at `at`, which [`Content::wants`] gave.
    fn skip_to(&mut self, at: u64);

    /// How many bytes in a row are needed where [`Content::wants`] points.
    fn stretch(&self) -> usize;

    /// Whether all that `--quick` looks at was seen, or nothing more will be.
    fn has_sections(&self) -> bool;

    /// Sees the next bytes.
    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Stop>;

    /// `len` bytes that could not be had; all that follow if it is not known how many.
    fn gap(&mut self, len: Option<u64>, sink: &mut Sink);
}

/// What a walk works with.
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

    /// Tells the progress of `content` and `stored` bytes, and hears whether to stop.
    pub(super) fn advance(&self, content: u64, stored: u64) -> Result<(), Stop> {
        self.progress.advance(content, stored);
        if self.progress.cancelled() {
            return Err(Stop::Failed("cancelled".into()));
        }
        Ok(())
    }

    /// Memory for frames under way.
    pub(super) fn frame_memory(&self) -> u64 {
        self.options.memory / 4
    }

    pub(super) fn buffers(&self) -> Buffers {
        Buffers::new(self.options.memory)
    }
}
