//! What salvage is asked for, and what is known before a payload's sections are read.

use crate::OpenOptions;
use crate::info::Info;

/// How a dump is salvaged.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How its stream is read, and how large its bitmap may be.
    pub open: OpenOptions,
    /// Whether only pages are kept that a checksum proves.
    pub proven: bool,
    /// The info file beside the dump.
    pub info: Option<Info>,
}

/// What is known of a payload before its sections are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Its length.
    pub(super) len: Option<u64>,
    /// Whether it has less than its bitmap promises.
    pub(super) short: bool,
    /// Where zeros begin that were made up when it was sealed.
    pub(super) filled_from: Option<u64>,
}
