//! Options of salvage, and facts known before the sections of a payload are read.

use std::ops::Range;

use crate::OpenOptions;
use crate::info::Info;

/// Options for salvaging a dump.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Options for reading the stream, and the limit of the bitmap.
    pub open: OpenOptions,
    /// Whether to keep only pages that a checksum proves.
    pub proven: bool,
    /// The info file of the dump.
    pub info: Option<Info>,
    /// Ranges of an uncompressed dump whose bytes are known to be wrong, ascending: they did not arrive.
    pub missing: Vec<Range<u64>>,
}

impl Options {
    /// Sets [`Self::open`].
    #[must_use]
    pub fn open(mut self, options: OpenOptions) -> Self {
        self.open = options;
        self
    }

    /// Sets [`Self::proven`].
    #[must_use]
    pub fn proven(mut self, proven: bool) -> Self {
        self.proven = proven;
        self
    }

    /// Sets [`Self::info`].
    #[must_use]
    pub fn info(mut self, info: impl Into<Option<Info>>) -> Self {
        self.info = info.into();
        self
    }

    /// Sets [`Self::missing`].
    #[must_use]
    pub fn missing(mut self, ranges: Vec<Range<u64>>) -> Self {
        self.missing = ranges;
        self
    }
}

/// Facts about a payload that are known before its sections are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Size in bytes.
    pub(super) len: Option<u64>,
    /// Whether it has fewer pages than its bitmap.
    pub(super) short: bool,
    /// Offset from which zeros were filled in when the dump was sealed.
    pub(super) filled_from: Option<u64>,
}
