//! Whether all frames of a stream have the same content length.

/// The content lengths of the frames of a stream, up to one of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evenness {
    frames: u64,
    /// Content length of the first frame.
    first: u64,
    /// Whether a frame has another content length than the first.
    uneven: bool,
}

impl Evenness {
    /// Adds a frame.
    pub(crate) fn add(&mut self, content_len: u64) {
        if self.frames == 0 {
            self.first = content_len;
        }
        self.uneven |= content_len != self.first;
        self.frames += 1;
    }

    /// Whether there are several frames and all of them, the last one too, have the same content
    /// length. A stream looks like this if it was truncated after a frame.
    pub(crate) fn looks_cut(self) -> bool {
        self.frames > 1 && !self.uneven
    }
}
