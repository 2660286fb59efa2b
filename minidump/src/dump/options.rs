//! How a dump is opened.

/// How a dump is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// How its stream is opened.
    pub stream: livecore_compress::OpenOptions,
    /// Whether page data that is missing at the end is served as zeros. If it is, the dump says so
    /// ([`Warning::ZeroTail`]).
    pub zero_tail: bool,
    /// The most bytes that the bitmap, or the list of a full dump's ranges, may take in memory. 32 MiB
    /// are a machine of 1 TiB.
    pub bitmap_limit: u64,
}

impl OpenOptions {
    /// The stream's options, no zero tail, bitmaps up to half of the stream's memory.
    pub fn new(stream: livecore_compress::OpenOptions) -> Self {
        let bitmap_limit = stream.memory / 2;
        Self {
            stream,
            zero_tail: false,
            bitmap_limit,
        }
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new(livecore_compress::OpenOptions::default())
    }
}
