//! How an image is opened, and how much memory that may take.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use livecore_minidump::Error;

use super::raw_layout::RawLayout;

/// How an image is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the offsets of a raw file mean; found if `None`. Not for other formats.
    pub layout: Option<RawLayout>,
    /// That a raw file is not looked through for its layout: its kernel will be asked
    /// (`take::settle`), and until then it is flat.
    pub kernel_is_asked: bool,
    /// Bytes of each table (segments, notes, indices) that may be held in memory.
    pub tables: u64,
    /// Bytes of memory that decoding may take. A 16th of it is for decoded pages.
    pub memory: u64,
    /// Where a spool goes (an unlinked file); the system's folder if `None`.
    pub spool_dir: Option<PathBuf>,
    /// Threads that decode a compressed file.
    pub threads: NonZeroUsize,
}

impl Default for Options {
    /// Tables of 64 MiB, a cache of 16 MiB, as many threads as there are processors.
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
    /// Bytes of decoded pages that may be kept.
    pub(super) fn cache(&self) -> u64 {
        self.memory / 16
    }

    /// How the file's stream is opened.
    pub(super) fn stream(&self) -> livecore_compress::OpenOptions {
        let mut stream = livecore_compress::OpenOptions::new()
            .threads(self.threads)
            .memory(self.memory);
        stream.spool_dir.clone_from(&self.spool_dir);
        stream
    }

    /// That a table of `len` bytes may be held in memory.
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
