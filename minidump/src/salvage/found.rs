//! What can be made of what is left.

use std::sync::Arc;

use livecore_compress::ReadAt;

use super::report::{PageCount, SectionLoss};
use crate::KernelDumpHeader;

/// What can be made of what is left.
pub(super) struct Found {
    pub(super) kind: &'static str,
    pub(super) page_size: u64,
    /// The new payload.
    pub(super) payload: Arc<dyn ReadAt>,
    pub(super) pages: PageCount,
    pub(super) sections: Vec<SectionLoss>,
    /// A header made of the payload.
    pub(super) header: KernelDumpHeader,
}
