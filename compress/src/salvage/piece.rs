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

/// `pieces` without the ranges `lost`. Both are ascending.
pub(super) fn without(pieces: &[Piece], lost: &[Range<u64>]) -> Vec<Piece> {
    let mut left = Vec::new();
    let mut next = 0;
    for whole in pieces {
        let mut at = whole.content.start;
        while let Some(range) = lost
            .get(next)
            .filter(|range| range.start < whole.content.end)
        {
            left.extend(piece(at..range.start.max(at), whole.proof));
            at = at.max(range.end);
            if range.end > whole.content.end {
                break;
            }
            next += 1;
        }
        left.extend(piece(at..whole.content.end.max(at), whole.proof));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_ranges_are_removed_from_every_piece_that_they_touch() {
        let pieces = [(0, 10), (20, 30), (30, 40)].map(|(a, b)| Piece {
            content: a..b,
            proof: Proof::None,
        });
        for (lost, left) in [
            (&[][..], &[0..10, 20..30, 30..40][..]),
            (&[0..10, 50..51], &[20..30, 30..40]),
            (&[5..25, 50..51], &[0..5, 25..30, 30..40]),
            (
                &[2..3, 4..6, 29..31, 39..50],
                &[0..2, 3..4, 6..10, 20..29, 31..39],
            ),
            (&[10..20, 50..51], &[0..10, 20..30, 30..40]),
            (&[0..100, 200..201], &[]),
        ] {
            let found: Vec<_> = without(&pieces, lost)
                .into_iter()
                .map(|p| p.content)
                .collect();
            assert_eq!(found, left, "without {lost:?}");
        }
    }
}
