//! Options for opening a dump.

use std::path::PathBuf;
use std::sync::Arc;

use crate::encryption::{KeyFile, PrivateKey};

/// Options for opening a dump.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Options for its stream.
    pub stream: livecore_compress::OpenOptions,
    /// Whether page data missing at the end is read as zeros. The dump then has the warning
    /// [`ZeroTail`](super::Warning::ZeroTail).
    pub zero_tail: bool,
    /// The maximum memory for the bitmap or the ranges of a full dump. A machine with 1 TiB of memory
    /// needs 32 MiB.
    pub bitmap_limit: u64,
    /// The private key for encrypted dumps.
    pub key: Option<Arc<PrivateKey>>,
    /// The key file of a dump without a path. By default [`AnyDump::open`](crate::AnyDump::open) reads
    /// the one in the directory of the dump.
    pub key_file: Option<KeyFile>,
    /// The name and the content of the info file of a dump without a path.
    pub info_file: Option<(PathBuf, Vec<u8>)>,
}

impl OpenOptions {
    /// Returns the default options: a bitmap of up to half of the stream's memory, and no zero tail.
    pub fn new() -> Self {
        let stream = livecore_compress::OpenOptions::new();
        Self {
            bitmap_limit: stream.memory / 2,
            zero_tail: false,
            key: None,
            key_file: None,
            info_file: None,
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

    /// Sets [`Self::key`].
    #[must_use]
    pub fn key(mut self, key: impl Into<Option<Arc<PrivateKey>>>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets [`Self::key_file`].
    #[must_use]
    pub fn key_file(mut self, key_file: impl Into<Option<KeyFile>>) -> Self {
        self.key_file = key_file.into();
        self
    }

    /// Sets [`Self::info_file`].
    #[must_use]
    pub fn info_file(mut self, info_file: impl Into<Option<(PathBuf, Vec<u8>)>>) -> Self {
        self.info_file = info_file.into();
        self
    }

    /// Sets [`Self::bitmap_limit`], in bytes.
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
