//! A restart point, and the digests of content that is decoded from one.

use crate::decode::StreamPosition;
use crate::table::Entry;

/// Maximum window of a frame that gets restart points.
pub(super) const WINDOW_MAX: u64 = 8 << 20;
/// Maximum size of a state: tables of a few hundred bytes, and a window.
pub(super) const STATE_MAX: u64 = WINDOW_MAX + (4 << 10);
/// Maximum size of a compressed state. zstd adds less than 1/128 and 1 KiB.
pub(super) const STORED_STATE_MAX: u64 = STATE_MAX + STATE_MAX / 128 + (1 << 10);
/// Maximum distance of restart points. Content further from the last one must be kept.
pub(super) const SEGMENT_MAX: u64 = 64 << 20;

/// A restart point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) place: StreamPosition,
    /// Offset of the compressed state in the file.
    pub(super) at: u64,
    /// Size of the compressed state; 0 if there is none.
    pub(super) len: u32,
    /// Low half of the XXH64 of the compressed state.
    pub(super) check: u32,
}

/// The entry of a frame that is decoded from a restart point: it is not stored.
pub(super) fn entry(digest: u64) -> Entry {
    Entry {
        stored_len: 0,
        content_check: digest as u32,
        stored_check: (digest >> 32) as u32,
    }
}
