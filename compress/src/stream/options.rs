//! Options of opening a stream.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::restart_cache::RestartCache;
use crate::{Codec, Error, ReadAt};

/// The window that every decoder of zstd should support (RFC 8878 3.1.1.1.2).
const WINDOW_MIN: u64 = 8 << 20;

/// Options of opening a stream.
///
/// ```
/// use livecore_compress::OpenOptions;
///
/// let options = OpenOptions::new().memory(64 << 20).spool_dir("/var/tmp");
/// assert_eq!(options.memory, 64 << 20);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Number of threads for reading ahead and for [`Stream::decode`](crate::Stream::decode).
    pub threads: NonZeroUsize,
    /// Memory limit in bytes. Decoded frames may use half of it. The window of a foreign zstd frame may
    /// use all of it, or 8 MiB if that is more. A table made by a walk may use a quarter.
    pub memory: u64,
    /// Directory for unlinked temporary files of a foreign stream: states of its decoder, and content
    /// far from one. By default the system's temporary directory.
    pub spool_dir: Option<PathBuf>,
    /// Where the restart points of a foreign stream are kept, so that a second open need not decode
    /// the whole stream; by default they are not kept.
    pub restart_cache: Option<RestartCache>,
    /// The codec, if the caller knows it from the beginning of the stream. By default the magic at the
    /// beginning determines it, and without a magic the seal at the end.
    pub codec: Option<Codec>,
    /// Whether to return the decodable content of a damaged frame of a foreign stream, for salvage.
    pub(crate) unproven: bool,
}

impl OpenOptions {
    /// The default of [`Self::memory`].
    pub const MEMORY: u64 = 256 << 20;

    /// One thread for each CPU, [`Self::MEMORY`], the system's temporary directory.
    pub fn new() -> Self {
        Self {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory: Self::MEMORY,
            spool_dir: None,
            restart_cache: None,
            codec: None,
            unproven: false,
        }
    }

    /// Sets [`Self::threads`].
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`Self::memory`], in bytes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets [`Self::spool_dir`].
    #[must_use]
    pub fn spool_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spool_dir = Some(dir.into());
        self
    }

    /// Sets [`Self::restart_cache`].
    #[must_use]
    pub fn restart_cache(mut self, cache: impl Into<Option<RestartCache>>) -> Self {
        self.restart_cache = cache.into();
        self
    }

    /// Sets [`Self::codec`].
    #[must_use]
    pub fn codec(mut self, codec: impl Into<Option<Codec>>) -> Self {
        self.codec = codec.into();
        self
    }

    /// The codec of `source` by its beginning; `None` if that does not determine it.
    pub(crate) fn codec_of(&self, source: &dyn ReadAt) -> Result<Option<Codec>, Error> {
        if self.codec.is_some() {
            return Ok(self.codec);
        }
        let mut head = [0; 64];
        let n = source.read_full_at(&mut head, 0).map_err(Error::Read)?;
        let codec = Codec::sniff(&head[..n]);
        Ok((codec != Codec::None).then_some(codec))
    }

    /// Size of the cache of decoded frames.
    pub(crate) fn cache(&self) -> u64 {
        self.memory / 2
    }

    /// Maximum number of frames of a table made by a walk: 16 bytes each, a quarter of the memory.
    pub(crate) fn walked(&self) -> u64 {
        self.memory / 64
    }

    /// Maximum window of a foreign zstd frame.
    pub(crate) fn max_window(&self) -> u64 {
        self.memory.max(WINDOW_MIN)
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens the file at `path` for [`Stream::open`](super::Stream::open).
pub(super) fn file(path: &Path) -> Result<Arc<dyn ReadAt>, Error> {
    Ok(Arc::new(File::open(path).map_err(Error::Read)?))
}

/// Receives content in order, in pieces with their offsets.
pub type Sink<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;
