//! What is left of a payload: all of what a stream holds, or the part of it that is a minidump.

use std::sync::Arc;

use livecore_compress::salvage::{Piece, Proof, Salvage as Stored};
use livecore_compress::{ReadAt, Window};

use super::options::Options;

/// What is left of a payload.
pub(super) struct Left {
    pub(super) stored: Stored,
    /// Where the part begins in the stream's content, and its length; all of it if there is none.
    part: Option<(u64, u64)>,
    pieces: Vec<Piece>,
}

impl Left {
    /// All of what `stored` holds.
    pub(super) fn new(stored: Stored) -> Self {
        Self {
            pieces: stored.pieces().to_vec(),
            stored,
            part: None,
        }
    }

    /// From now on the `len` bytes at `start` are the payload.
    pub(super) fn narrow(&mut self, start: u64, len: u64) {
        self.part = Some((start, len));
        self.cut();
    }

    /// From now on everything is the payload again.
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

    /// What can be had of it, ascending.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Its bytes; a read of what was lost is an error.
    pub(super) fn content(&self) -> Arc<dyn ReadAt> {
        match self.part {
            None => self.stored.content(),
            Some((start, len)) => Arc::new(Window::new(self.stored.content(), start, len)),
        }
    }

    /// Says how long it was, which may tell where what lies behind a gap belongs.
    pub(super) fn place(&mut self, len: u64) {
        // Behind a part there is nothing in what we write.
        let start = self.part.map_or(0, |(start, _)| start);
        if let Some(len) = start.checked_add(len) {
            self.stored.place(len);
            self.cut();
        }
    }
}

/// The pieces that are good enough.
pub(super) fn good(left: &Left, options: &Options) -> Vec<Piece> {
    let admits = |p: &&Piece| !options.proven || p.proof == Proof::Checksum;
    left.pieces().iter().filter(admits).cloned().collect()
}

/// How many bytes from `offset` on are covered, at most `len`, and by what.
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
