//! How a dump is published.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use livecore_compress::Codec;

use super::directory::Directory;
use super::temporary::Temporary;
use super::{PublishError, Stem};

/// Options for publishing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The codec, for the suffix of the name in a directory.
    pub codec: Codec,
    /// Whether an existing file may be replaced. Has no effect in a directory.
    pub force: bool,
    /// savecore(8)'s `-m`: rotate numbers below this one, replacing livecore dumps.
    pub max: Option<NonZeroU32>,
    /// Write blocks of zeros as holes. For uncompressed dumps.
    pub sparse: bool,
    /// Time limit for another process's lock on the directory.
    pub lock_wait: Duration,
    /// Size of the dump, if known, for the check of free space; 0 if not.
    pub needed: u64,
    /// The name in a directory.
    pub stem: Stem,
    /// The file has a temporary name while it is written, even if the system supports unlinked files.
    pub named: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            force: false,
            max: None,
            sparse: false,
            lock_wait: Duration::from_secs(10),
            needed: 0,
            stem: Stem::Livecore,
            named: false,
        }
    }
}

impl Options {
    /// Options for a dump of `len` bytes, if known, stored with `codec`. An uncompressed dump is
    /// sparse and needs that much space; the size of a compressed one is unknown.
    pub fn of_dump(codec: Codec, len: Option<u64>) -> Self {
        let uncompressed = codec == Codec::None;
        Self {
            codec,
            sparse: uncompressed,
            needed: len.filter(|_| uncompressed).unwrap_or(0),
            ..Self::default()
        }
    }

    /// Sets [`Self::codec`].
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets [`Self::force`].
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets [`Self::max`].
    #[must_use]
    pub fn max(mut self, max: impl Into<Option<NonZeroU32>>) -> Self {
        self.max = max.into();
        self
    }

    /// Sets [`Self::sparse`].
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }

    /// Sets [`Self::lock_wait`].
    #[must_use]
    pub fn lock_wait(mut self, limit: Duration) -> Self {
        self.lock_wait = limit;
        self
    }

    /// Sets [`Self::needed`], in bytes.
    #[must_use]
    pub fn needed(mut self, bytes: u64) -> Self {
        self.needed = bytes;
        self
    }

    /// Sets [`Self::stem`].
    #[must_use]
    pub fn stem(mut self, stem: Stem) -> Self {
        self.stem = stem;
        self
    }

    /// Sets [`Self::named`].
    #[must_use]
    pub fn named(mut self, named: bool) -> Self {
        self.named = named;
        self
    }

    /// Creates the temporary file for `target`.
    ///
    /// # Errors
    ///
    /// [`PublishError`] about `target`.
    pub(super) fn temporary(
        &self,
        directory: &Directory,
        target: PathBuf,
    ) -> Result<Temporary, PublishError> {
        match self.named {
            true => Temporary::create_named(directory, 0o600, target),
            false => Temporary::create(directory, 0o600, target),
        }
    }
}
