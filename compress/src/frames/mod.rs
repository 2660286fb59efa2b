//! Walking a compressed stream by the codec's own structure, without decoding and without index.
//!
//! zstd frames say where they end, block by block. gzip members do not, unless their writer says
//! it in an extra field: ours do, and bgzip's.

pub mod gzip;
pub mod zstd;

pub use gzip::GzipMembers;
pub use zstd::ZstdFrames;

/// What the walk has come upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// A frame or member with content, or an empty one that says nothing of itself.
    Data,
    /// A zstd skippable frame with this magic.
    Skippable(u32),
    /// An empty gzip member that carries a piece of a seal, or its footer, in this subfield.
    Seal([u8; 2]),
}

/// One frame or member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes, from the first of its header to the last of its checks.
    pub stored_len: u64,
    /// Bytes of content, if the frame's header says it.
    pub content_len: Option<u64>,
    /// The check of its content: a zstd frame's checksum, a gzip member's CRC-32.
    pub content_check: Option<u32>,
}
