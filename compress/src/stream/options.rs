//! How a stream is opened, and who takes its content.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, ReadAt};

/// The window that every decoder of zstd should support (RFC 8878 3.1.1.1.2).
const WINDOW_MIN: u64 = 8 << 20;

/// How a stream is opened.
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
    /// Workers for decoding ahead and for [`Stream::decode`](crate::Stream::decode).
    pub threads: NonZeroUsize,
    /// Bytes of memory that the content of the file may make a reader use. A 16th of it is for
    /// decoded frames; a foreign zstd frame may have a window of all of it, or of 8 MiB if that is
    /// more; an index that is made by walking has a quarter.
    pub memory: u64,
    /// Where a foreign stream's spool goes (an unlinked file); the system's folder if `None`.
    pub spool_dir: Option<PathBuf>,
    /// Whether what decodes of a foreign stream's damaged frame is content: to salvage it.
    pub(crate) unproven: bool,
}

impl OpenOptions {
    /// The default of [`Self::memory`].
    pub const MEMORY: u64 = 256 << 20;

    /// As many workers as there are processors, [`Self::MEMORY`], the system's temporary folder.
    pub fn new() -> Self {
        Self {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory: Self::MEMORY,
            spool_dir: None,
            unproven: false,
        }
    }

    /// Sets [`Self::threads`].
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`Self::memory`].
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

    /// Decoded bytes that may be kept.
    pub(crate) fn cache(&self) -> u64 {
        self.memory / 16
    }

    /// Frames of an index that is made by walking: 16 bytes each, a quarter of the memory.
    pub(crate) fn walked(&self) -> u64 {
        self.memory / 64
    }

    /// The largest window of a foreign zstd frame.
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

/// Takes content in order, piece by piece, each with its offset.
pub type Sink<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;
