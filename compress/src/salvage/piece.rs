//! Pieces of content, and what proves them.

use std::ops::Range;

/// What says that a piece of content is what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing: uncompressed bytes without an index, or a stream whose end is lost and with it its
    /// checksum.
    None,
    /// The frame's own checksum, or its digest in a seal's index.
    Checksum,
}

/// A piece of content that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the content.
    pub content: Range<u64>,
    /// What says that it is right.
    pub proof: Proof,
}

/// The piece of `content`, if that is not empty.
pub(super) fn piece(content: Range<u64>, proof: Proof) -> Vec<Piece> {
    match content.is_empty() {
        true => Vec::new(),
        false => vec![Piece { content, proof }],
    }
}
