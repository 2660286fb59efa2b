//! The bytes that are left of a payload: the content of a stream, or the minidump in it.

use std::sync::Arc;

use livecore_compress::salvage::{Piece, Proof, Salvage as Stored};
use livecore_compress::{ReadAt, Window};

use super::options::Options;

/// The bytes that are left of a payload.
pub(super) struct Left {
    pub(super) stored: Stored,
    /// Offset and size of the payload in the content of the stream; `None` for the whole content.
    part: Option<(u64, u64)>,
    pieces: Vec<Piece>,
}

impl Left {
    /// The whole content of `stored`.
    pub(super) fn new(stored: Stored) -> Self {
        Self {
            pieces: stored.pieces().to_vec(),
            stored,
            part: None,
        }
    }

    /// Makes the `len` bytes at `start` the payload.
    pub(super) fn narrow(&mut self, start: u64, len: u64) {
        self.part = Some((start, len));
        self.cut();
    }

    /// Makes the whole content the payload again.
    pub(super) fn widen(&mut self) {
        self.part = None;
        self.cut();
    }

    fn cut(&mut self) {
        let (start, len) = self.part.unwrap_or((0, u64::MAX));
        let end = start.saturating_add(len);
        let inside = |piece: &Piece| {
            let content = piece.content.start.max(start)..piece.content.end.min(end);
            (content.start < content.end).then(|| Piece {
                content: content.start - start..content.end - start,
                proof: piece.proof,
            })
        };
        self.pieces = self.stored.pieces().iter().filter_map(inside).collect();
    }

    /// The readable pieces, ascending.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The bytes of the payload. Reading lost bytes is an error.
    pub(super) fn content(&self) -> Arc<dyn ReadAt> {
        match self.part {
            None => self.stored.content(),
            Some((start, len)) => Arc::new(Window::new(self.stored.content(), start, len)),
        }
    }

    /// Sets the original size of the payload. With it, the offset of data after a gap may become
    /// known.
    pub(super) fn place(&mut self, len: u64) {
        // In files that Livecore writes, nothing follows the minidump.
        let start = self.part.map_or(0, |(start, _)| start);
        if let Some(len) = start.checked_add(len) {
            self.stored.place(len);
            self.cut();
        }
    }
}

/// The pieces that `options` accept.
pub(super) fn good(left: &Left, options: &Options) -> Vec<Piece> {
    let admits = |p: &&Piece| !options.proven || p.proof == Proof::Checksum;
    left.pieces().iter().filter(admits).cloned().collect()
}

/// Returns how many of the `len` bytes at `offset` are covered, counted from the first, and the
/// weakest proof among them.
pub(super) fn covered(pieces: &[Piece], offset: u64, len: u64) -> (u64, Proof) {
    let mut at = offset;
    let mut proof = Proof::Checksum;
    let end = offset.saturating_add(len);
    let first = pieces.partition_point(|p| p.content.end <= offset);
    for piece in &pieces[first..] {
        if at >= end || piece.content.start > at {
            break;
        }
        at = piece.content.end.min(end);
        proof = proof.min(piece.proof);
    }
    (at - offset, proof)
}
