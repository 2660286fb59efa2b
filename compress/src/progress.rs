//! How long work tells of itself, and is told to stop.

/// Hears how far a long piece of work is, and may end it.
pub trait Progress: Sync {
    /// `content` more bytes of content are done, and `stored` more bytes are written or read.
    fn advance(&self, content: u64, stored: u64) {
        let _ = (content, stored);
    }

    /// Whether the work is to end now with [`crate::Error::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Hears nothing and ends nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
