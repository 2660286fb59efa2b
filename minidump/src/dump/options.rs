//! How a dump is opened.

/// How a dump is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// How its stream is opened.
    pub stream: livecore_compress::OpenOptions,
    /// Whether page data that is missing at the end reads as zeros. If it does, the dump has the
    /// warning [`ZeroTail`](super::Warning::ZeroTail).
    pub zero_tail: bool,
    /// The most bytes that the bitmap, or the list of a full dump's ranges, may take in memory. 32 MiB
    /// are a machine of 1 TiB.
    pub bitmap_limit: u64,
}

impl OpenOptions {
    /// The default options of a stream, no zero tail, bitmaps up to half of the stream's memory.
    pub fn new() -> Self {
        let stream = livecore_compress::OpenOptions::new();
        Self {
            bitmap_limit: stream.memory / 2,
            zero_tail: false,
            stream,
        }
    }

    /// Sets [`Self::stream`], and [`Self::bitmap_limit`] to half of its memory.
    #[must_use]
    pub fn stream(mut self, stream: livecore_compress::OpenOptions) -> Self {
        self.bitmap_limit = stream.memory / 2;
        self.stream = stream;
        self
    }

    /// Sets [`Self::zero_tail`].
    #[must_use]
    pub fn zero_tail(mut self, zero_tail: bool) -> Self {
        self.zero_tail = zero_tail;
        self
    }

    /// Sets [`Self::bitmap_limit`].
    #[must_use]
    pub fn bitmap_limit(mut self, bytes: u64) -> Self {
        self.bitmap_limit = bytes;
        self
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}
