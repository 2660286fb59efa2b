//! Options for opening images.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use livecore_minidump::Error;

use super::raw_layout::RawLayout;

/// Options for opening images.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The layout of a raw file; searched for if `None`. Ignored for other formats.
    pub layout: Option<RawLayout>,
    /// Do not search a raw file for its layout, since its kernel will provide it (`take::settle`).
    /// Until then the layout is flat.
    pub kernel_is_asked: bool,
    /// Memory limit for each table (segments, notes, indices), in bytes.
    pub tables: u64,
    /// Memory limit for decompression, in bytes. A 16th of it is for decompressed pages.
    pub memory: u64,
    /// The directory for an unlinked temporary file; the system's default if `None`.
    pub spool_dir: Option<PathBuf>,
    /// Threads for decompression.
    pub threads: NonZeroUsize,
}

impl Default for Options {
    /// Tables of 64 MiB, a cache of 16 MiB, a thread for each processor.
    fn default() -> Self {
        let stream = livecore_compress::OpenOptions::default();
        Self {
            layout: None,
            kernel_is_asked: false,
            tables: 64 << 20,
            memory: stream.memory,
            spool_dir: None,
            threads: stream.threads,
        }
    }
}

impl Options {
    /// Sets [`Self::layout`].
    #[must_use]
    pub fn layout(mut self, layout: impl Into<Option<RawLayout>>) -> Self {
        self.layout = layout.into();
        self
    }

    /// Sets [`Self::kernel_is_asked`].
    #[must_use]
    pub fn kernel_is_asked(mut self, asked: bool) -> Self {
        self.kernel_is_asked = asked;
        self
    }

    /// Sets [`Self::tables`], in bytes.
    #[must_use]
    pub fn tables(mut self, bytes: u64) -> Self {
        self.tables = bytes;
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

    /// Sets [`Self::threads`].
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// The size of the cache of decompressed pages.
    pub(super) fn cache(&self) -> u64 {
        self.memory / 16
    }

    /// Options for opening the file's stream.
    pub(super) fn stream(&self) -> livecore_compress::OpenOptions {
        let mut stream = livecore_compress::OpenOptions::new()
            .threads(self.threads)
            .memory(self.memory);
        stream.spool_dir.clone_from(&self.spool_dir);
        stream
    }

    /// Checks that a table of `len` bytes is within the limit.
    pub(super) fn allow(&self, what: &str, len: u64) -> Result<(), Error> {
        if len <= self.tables {
            return Ok(());
        }
        Err(livecore_compress::Error::Limit {
            what: what.into(),
            needed: len,
            limit: self.tables,
        }
        .into())
    }
}
