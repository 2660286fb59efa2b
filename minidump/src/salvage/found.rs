//! A salvaged payload with its report and header.

use std::ops::Range;
use std::sync::Arc;

use livecore_compress::ReadAt;

use super::report::{PageCount, SectionLoss};
use crate::KernelDumpHeader;

/// A salvaged payload with its report and header.
pub(super) struct Found {
    pub(super) kind: &'static str,
    pub(super) page_size: u64,
    /// The new payload.
    pub(super) payload: Arc<dyn ReadAt>,
    pub(super) pages: PageCount,
    pub(super) sections: Vec<SectionLoss>,
    /// Bytes of the sections that no checksum proves.
    pub(super) unproven_sections: u64,
    /// Ranges of the new payload that no checksum proves.
    pub(super) unproven: Vec<Range<u64>>,
    /// Corrections, as text.
    pub(super) corrections: Vec<String>,
    /// A header created from the payload.
    pub(super) header: KernelDumpHeader,
}
