//! Recovered pieces of content, and their proof.

use std::ops::Range;

/// The proof that a piece of content is intact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// No proof: uncompressed bytes without an index, or a single stream whose end, with its
    /// checksum, is lost.
    None,
    /// The frame's checksum, or its digest in a seal's index.
    Checksum,
}

/// A recoverable piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Range in the content.
    pub content: Range<u64>,
    /// The proof that it is intact.
    pub proof: Proof,
}

/// A piece for `content`, unless that is empty.
pub(super) fn piece(content: Range<u64>, proof: Proof) -> Vec<Piece> {
    match content.is_empty() {
        true => Vec::new(),
        false => vec![Piece { content, proof }],
    }
}
