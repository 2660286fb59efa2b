//! How dumps are saved.

use std::num::NonZeroU32;
use std::path::Path;

use livecore_minidump::convert::Target;
use livecore_minidump::encryption::{Cipher, PublicKey};

use crate::session::Session;

/// How dumps are saved.
pub(super) struct Plan<'a> {
    pub directory: &'a Path,
    pub target: Target,
    /// The level that an option selects, for the codec of `target`.
    pub level: Option<i32>,
    pub encryption: Option<(PublicKey, Cipher)>,
    /// Save cleared dumps, and dumps with inconsistent headers.
    pub force: bool,
    /// Do not clear the dump.
    pub keep: bool,
    /// Rotate numbers below this one.
    pub max: Option<NonZeroU32>,
    /// The report goes to standard output, so no progress is shown.
    pub json: bool,
}

/// Options for reading a dump once: without restart points, which would be stored.
pub(super) fn stream_options(session: &Session<'_>) -> livecore_compress::OpenOptions {
    session.stream_options(None).restart_cache(None)
}
