//! The blocks after a restart point, and which content before it they refer to.
//!
//! A match refers to at most a window of earlier content. So after a window of content, no match refers
//! to content before the restart point, and the content that none has referred to is not needed. It is
//! replaced by zeros, which take no space in a compressed state. This changes no content that is
//! decoded from the restart point.

use super::sequences::Sequences;

/// Maximum number of blocks and of their bytes to keep; a window usually has 64 blocks at most.
const BLOCKS_MAX: usize = 4096;
const BYTES_MAX: usize = 16 << 20;
/// Unit in which content is kept or replaced by zeros.
const UNIT: usize = 8;

/// A block.
struct Block {
    /// Length of the content that is not copied from earlier content.
    literals: u32,
    sequences: Option<Sequences>,
}

/// The blocks after a restart point.
#[derive(Default)]
pub(crate) struct Followed {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Followed {
    /// Adds a block. `None` if there are too many.
    pub(super) fn push(&mut self, literals: u32, sequences: Option<Sequences>) -> Option<()> {
        self.bytes += sequences.as_ref().map_or(0, |s| s.bits.len());
        self.blocks.push(Block {
            literals,
            sequences,
        });
        (self.blocks.len() <= BLOCKS_MAX && self.bytes <= BYTES_MAX).then_some(())
    }

    /// Replaces bytes of `window`, the content before the restart point, to which no block refers, by
    /// zeros. `repeats` are the repeat offsets at the restart point. If a block refers to other content,
    /// `window` stays as it is.
    pub(super) fn prune(&self, repeats: [u32; 3], window: &mut [u8]) {
        if let Some(used) = self.used(repeats, window.len()) {
            for (unit, used) in window.chunks_mut(UNIT).zip(used) {
                if !used {
                    unit.fill(0);
                }
            }
        }
    }

    /// The units of a window of `len` bytes to which blocks refer.
    fn used(&self, repeats: [u32; 3], len: usize) -> Option<Vec<bool>> {
        let mut used = vec![false; len.div_ceil(UNIT)];
        let mut repeats = repeats;
        // Offset in the window, or after it.
        let mut at = len as u64;
        for block in &self.blocks {
            let mut literals = u64::from(block.literals);
            if let Some(sequences) = &block.sequences {
                sequences.each(|sequence| {
                    let offset = sequence.offset(&mut repeats)?;
                    literals = literals.checked_sub(sequence.literals.into())?;
                    at += u64::from(sequence.literals);
                    let from = at.checked_sub(offset.into())?;
                    if from < len as u64 {
                        let end = (from + u64::from(sequence.matched)).min(len as u64);
                        let units = from as usize / UNIT..(end as usize).div_ceil(UNIT);
                        used.get_mut(units)?.fill(true);
                    }
                    at += u64::from(sequence.matched);
                    Some(())
                })?;
            }
            at += literals;
        }
        Some(used)
    }
}
