//! Progress reports and cancellation of long operations.

/// Receives the progress of a long operation, and may cancel it.
pub trait Progress: Sync {
    /// Reports that `content` more bytes of content were processed, and `stored` more bytes were
    /// written or read.
    fn advance(&self, content: u64, stored: u64) {
        let _ = (content, stored);
    }

    /// Whether the operation should stop with [`crate::Error::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Ignores progress and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
