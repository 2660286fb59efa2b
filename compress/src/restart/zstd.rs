//! Restart points at block boundaries of zstd frames.
//!
//! The state of a decoder between two blocks is what a full dictionary contains: the Huffman table,
//! three FSE tables, three repeat offsets, and the content that later matches refer to. So a frame can
//! be resumed at a block boundary with a dictionary and a frame header (RFC 8878 5 describes both).
//! Descriptions of tables are copied from the blocks that have them. Repeat offsets follow from the
//! sequences of the last blocks. A table of a single symbol cannot be in a dictionary; such a boundary
//! is not a restart point.

use std::collections::VecDeque;
use std::sync::Arc;

use super::followed::Followed;
use super::sequences::{Code, DEFAULTS, FIRST, Repeat, Sequences, Table, compose};
use crate::zstd_format::{
    BLOCK_HEADER_LEN, BLOCK_MAX, BlockHeader, FRAME_HEADER_MAX, FrameHeader, MAGIC,
};

/// Magic of a dictionary.
const DICTIONARY_MAGIC: u32 = 0xEC30_A437;
/// A Huffman table of two symbols with one bit each, for frames that have not had one.
const ANY_HUFFMAN: [u8; 2] = [128, 0x10];
/// Number of blocks whose sequences are kept to find the repeat offsets.
const RECENT: usize = 8;
/// Size of the header of a made-up frame: magic, descriptor, window.
const HEADER_LEN: usize = 6;

/// Follows the blocks of a frame.
pub(crate) struct Tracker {
    stage: Stage,
    /// The part of a header or block that was seen.
    seen: Vec<u8>,
    window: u64,
    checksum: bool,
    huffman: Option<Arc<[u8]>>,
    /// In the order of [`Code::ALL`].
    tables: [Table; 3],
    /// The last blocks with sequences.
    recent: VecDeque<Sequences>,
    /// Whether `recent` has all of the frame's blocks with sequences.
    whole: bool,
    /// Whether a block has ended.
    begun: bool,
    /// The blocks since [`Self::follow`].
    followed: Option<Followed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    FrameHeader,
    BlockHeader,
    /// A block's content, of this many bytes.
    Block {
        compressed: bool,
        last: bool,
        len: usize,
        /// Length of its content, if it is not compressed.
        content: u32,
    },
    /// After the last block, or in a block that cannot be parsed.
    Lost,
}

impl Tracker {
    /// A tracker at the beginning of a frame.
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::FrameHeader,
            seen: Vec::new(),
            window: 0,
            checksum: false,
            huffman: None,
            tables: DEFAULTS.clone().map(Table::Described),
            recent: VecDeque::new(),
            whole: true,
            begun: false,
            followed: None,
        }
    }

    /// Remembers the blocks from here on.
    pub(crate) fn follow(&mut self) {
        self.followed = Some(Followed::default());
    }

    /// The blocks since [`Self::follow`]; `None` if there were too many, or if one cannot be parsed.
    pub(crate) fn followed(&mut self) -> Option<Followed> {
        self.followed.take()
    }

    fn push(&mut self, literals: u32, sequences: Option<Sequences>) {
        if let Some(followed) = &mut self.followed
            && followed.push(literals, sequences).is_none()
        {
            self.followed = None;
        }
    }

    /// The frame's window, once its header was seen.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Whether the last byte seen is that of a block's header, after another block.
    pub(crate) fn at_boundary(&self) -> bool {
        self.begun && self.seen.is_empty() && matches!(self.stage, Stage::Block { .. })
    }

    /// Continues with bytes that the decoder has accepted.
    pub(crate) fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match self.stage {
                // The length of a header is known only after its second byte.
                Stage::FrameHeader => self.seen.len() + 1,
                Stage::BlockHeader => BLOCK_HEADER_LEN,
                Stage::Block { len, .. } => len,
                Stage::Lost => return,
            };
            if self.seen.is_empty() && bytes.len() >= wanted && self.stage != Stage::FrameHeader {
                // All of it is here: parse it without a copy.
                let (now, later) = bytes.split_at(wanted);
                self.advance(now);
                bytes = later;
                continue;
            }
            let n = bytes.len().min(wanted - self.seen.len());
            self.seen.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.seen.len() == wanted {
                let mut seen = std::mem::take(&mut self.seen);
                if self.advance(&seen) {
                    seen.clear();
                }
                // Keep the allocation.
                self.seen = seen;
            }
        }
    }

    /// Continues after a header or block. `false` if it is the beginning of a longer header.
    fn advance(&mut self, seen: &[u8]) -> bool {
        self.stage = match self.stage {
            Stage::FrameHeader => match FrameHeader::parse(seen) {
                Some(header) => {
                    self.window = header.window;
                    self.checksum = header.checksum;
                    match header.dictionary {
                        0 => Stage::BlockHeader,
                        _ => Stage::Lost,
                    }
                }
                None if seen.len() < FRAME_HEADER_MAX => return false,
                None => Stage::Lost,
            },
            Stage::BlockHeader => self.block(seen),
            Stage::Block {
                compressed,
                last,
                content,
                ..
            } => {
                self.begun = true;
                let parsed = match compressed {
                    true => self.compressed(seen),
                    false => {
                        self.push(content, None);
                        Some(())
                    }
                };
                if parsed.is_none() {
                    self.followed = None;
                }
                match parsed {
                    Some(()) if !last => Stage::BlockHeader,
                    _ => Stage::Lost,
                }
            }
            Stage::Lost => Stage::Lost,
        };
        true
    }

    fn block(&mut self, header: &[u8]) -> Stage {
        let Some(bytes) = header.first_chunk() else {
            return Stage::Lost;
        };
        match BlockHeader::parse(*bytes) {
            // A block without bytes.
            Some(block) if block.stored_len == 0 && block.last => Stage::Lost,
            Some(block) if block.stored_len == 0 => {
                self.begun = true;
                Stage::BlockHeader
            }
            Some(block) => Stage::Block {
                compressed: bytes[0] >> 1 & 3 == 2,
                last: block.last,
                len: block.stored_len as usize,
                content: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) >> 3,
            },
            None => Stage::Lost,
        }
    }

    /// Parses a compressed block.
    fn compressed(&mut self, block: &[u8]) -> Option<()> {
        let first = *block.first()?;
        let format = first >> 2 & 3;
        let (literals, rest) = if first & 3 < 2 {
            // Raw literals, or one that is repeated.
            let len = [1, 2, 1, 3][usize::from(format)];
            let word = little(block.get(..len)?);
            let size = word >> if len == 1 { 3 } else { 4 };
            let stored = match first & 3 {
                0 => size as usize,
                _ => 1,
            };
            (size, block.get(len..)?.get(stored..)?)
        } else {
            let (len, width) = [(3, 10), (3, 10), (4, 14), (5, 18)][usize::from(format)];
            let word = little(block.get(..len)?) >> 4;
            let stored = (word >> width & ((1 << width) - 1)) as usize;
            let literals = block.get(len..)?.get(..stored)?;
            if first & 3 == 2 {
                let head = usize::from(*literals.first()?);
                let len = match head {
                    0..128 => 1 + head,
                    _ => 1 + (head - 127).div_ceil(2),
                };
                self.huffman = Some(literals.get(..len)?.into());
            }
            (word & ((1 << width) - 1), &block[len + stored..])
        };
        // At most 20 bits.
        self.sequences(literals as u32, rest)
    }

    /// Parses the sequences section, after this number of literals.
    fn sequences(&mut self, literals: u32, section: &[u8]) -> Option<()> {
        let (first, rest) = section.split_first()?;
        let (count, rest) = match *first {
            0 => {
                self.push(literals, None);
                return Some(());
            }
            few @ 1..128 => (u32::from(few), rest),
            255 => {
                let (bytes, rest) = rest.split_first_chunk::<2>()?;
                (u32::from(u16::from_le_bytes(*bytes)) + 0x7F00, rest)
            }
            high => {
                let (low, rest) = rest.split_first()?;
                (((u32::from(high) - 128) << 8) + u32::from(*low), rest)
            }
        };
        let (modes, mut rest) = rest.split_first()?;
        for (index, code) in Code::ALL.into_iter().enumerate() {
            match modes >> (6 - 2 * index) & 3 {
                0 => self.tables[index] = Table::Described(Arc::clone(&DEFAULTS[index])),
                1 => {
                    let (symbol, after) = rest.split_first()?;
                    self.tables[index] = Table::Single(*symbol);
                    rest = after;
                }
                2 => {
                    let (most, log) = code.limits();
                    let (_, len) = super::fse::Counts::read(rest, most, log)?;
                    let (description, after) = rest.split_at(len);
                    self.tables[index] = Table::Described(description.into());
                    rest = after;
                }
                _ => {}
            }
        }
        let mut bits = Vec::new();
        if self.recent.len() == RECENT {
            // Use its memory again.
            bits = self.recent.pop_front().map(|s| s.bits).unwrap_or_default();
            bits.clear();
            self.whole = false;
        }
        bits.extend_from_slice(rest);
        let sequences = Sequences {
            count,
            tables: self.tables.clone(),
            bits,
        };
        if self.followed.is_some() {
            self.push(literals, Some(sequences.clone()));
        }
        self.recent.push_back(sequences);
        Some(())
    }

    /// The repeat offsets.
    fn repeats(&self) -> Option<[u32; 3]> {
        let mut repeats = [0, 1, 2].map(|index| Repeat::Before { index, minus: 0 });
        for block in self.recent.iter().rev() {
            repeats = compose(repeats, block.repeats()?)?;
            if repeats.iter().all(|r| matches!(r, Repeat::Known(_))) {
                break;
            }
        }
        if self.whole {
            repeats = compose(repeats, FIRST.map(Repeat::Known))?;
        }
        let mut out = [0; 3];
        for (out, repeat) in out.iter_mut().zip(repeats) {
            match repeat {
                Repeat::Known(offset) => *out = offset,
                Repeat::Before { .. } => return None,
            }
        }
        Some(out)
    }

    /// The state at a boundary, without content. [`resume`] continues with it and the content before
    /// the boundary. `None` if a dictionary cannot express the state. `content` is the length of the
    /// frame's content so far, at most the window.
    pub(crate) fn state(&self, content: u64) -> Option<Vec<u8>> {
        if !self.at_boundary() {
            return None;
        }
        let repeats = self.repeats()?;
        if repeats.iter().any(|offset| u64::from(*offset) > content) {
            return None;
        }
        let mut out = vec![
            window_byte(self.window.max(BLOCK_MAX.into()))?,
            self.checksum.into(),
        ];
        out.extend(DICTIONARY_MAGIC.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.huffman.as_deref().unwrap_or(&ANY_HUFFMAN));
        // Offsets, match lengths, literals lengths.
        for index in [1, 2, 0] {
            let Table::Described(bytes) = &self.tables[index] else {
                return None;
            };
            out.extend(&**bytes);
        }
        repeats.iter().for_each(|r| out.extend(r.to_le_bytes()));
        Some(out)
    }
}

/// What a decoder needs to resume a frame.
pub(crate) struct Resumed<'a> {
    /// The header of a made-up frame.
    pub(crate) header: [u8; HEADER_LEN],
    /// Whether a checksum follows the frame.
    pub(crate) checksum: bool,
    pub(crate) dictionary: &'a [u8],
}

/// Replaces content of a state, its last `content` bytes, to which no block refers, by zeros.
pub(crate) fn prune(followed: &Followed, state: &mut [u8], content: usize) {
    let Some(at) = state.len().checked_sub(content) else {
        return;
    };
    let (tables, window) = state.split_at_mut(at);
    let Some(repeats) = tables.last_chunk::<12>() else {
        return;
    };
    let (words, _) = repeats.as_chunks::<4>();
    let mut repeats = [0; 3];
    for (repeat, word) in repeats.iter_mut().zip(words) {
        *repeat = u32::from_le_bytes(*word);
    }
    followed.prune(repeats, window);
}

/// Parses a state with the content after it.
pub(crate) fn resume(state: &[u8]) -> Option<Resumed<'_>> {
    let ([window, checksum], dictionary) = state.split_first_chunk()?;
    let [a, b, c, d] = MAGIC.to_le_bytes();
    Some(Resumed {
        header: [a, b, c, d, 0, *window],
        checksum: *checksum != 0,
        dictionary,
    })
}

/// The window descriptor of the smallest window of at least `window` bytes (RFC 8878 3.1.1.1.2).
fn window_byte(window: u64) -> Option<u8> {
    (0..=255_u8).find(|byte| {
        let base = 1_u64 << (10 + (byte >> 3));
        base + (base >> 3) * u64::from(byte & 7) >= window
    })
}

/// A little-endian number of at most 8 bytes.
fn little(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
