//! Restart points at block boundaries of deflate streams.
//!
//! The state of a decoder between two blocks is the rest of the last byte, of which the earlier bits
//! belong to the block before, and the last 32 KiB of content.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{
    BlockBoundaryState, DecompressorOxide, decompress_with_limit, inflate_flags,
};

use crate::decode::decoded::Decoded;

/// Maximum distance of a match.
pub(crate) const WINDOW: usize = 32 << 10;
/// Size of the decoder's buffer: a window, and the content that follows it.
const RING: usize = 2 * WINDOW;

/// What an error says was found in damaged data.
pub(crate) const DAMAGED: &str = "data that does not inflate";

/// A decoder that stops between blocks.
pub(crate) struct Inflater {
    core: Box<DecompressorOxide>,
    ring: Vec<u8>,
    /// Where the next content goes in `ring`.
    at: usize,
    /// Whether `ring` was filled once.
    wrapped: bool,
    boundary: Option<BlockBoundaryState>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self {
            core: Box::default(),
            ring: vec![0; RING],
            at: 0,
            wrapped: false,
            boundary: None,
        }
    }

    /// Whether the decoder is between two blocks.
    pub(crate) fn at_boundary(&self) -> bool {
        self.boundary.is_some()
    }

    /// Decodes some of `stored` to the beginning of `out`.
    pub(crate) fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> Decoded {
        use inflate_flags::{
            TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_IGNORE_ADLER32,
            TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
        };
        let mut flags = TINFL_FLAG_HAS_MORE_INPUT
            | TINFL_FLAG_IGNORE_ADLER32
            | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        if !self.wrapped {
            // Matches before the first byte are an error.
            flags |= TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        }
        // The content after a window must not overwrite it.
        let most = out.len().min(WINDOW).min(RING - self.at);
        let (status, used, made) =
            decompress_with_limit(&mut self.core, stored, &mut self.ring, self.at, most, flags);
        out[..made].copy_from_slice(&self.ring[self.at..self.at + made]);
        self.at += made;
        if self.at == RING {
            self.at = 0;
            self.wrapped = true;
        }
        self.boundary = match status {
            TINFLStatus::BlockBoundary => self.core.block_boundary_state(),
            _ => None,
        };
        Decoded {
            used,
            made,
            ended: match status {
                TINFLStatus::Done => Ok(true),
                TINFLStatus::NeedsMoreInput
                | TINFLStatus::HasMoreOutput
                | TINFLStatus::BlockBoundary => Ok(false),
                _ => Err(DAMAGED.into()),
            },
        }
    }

    /// The state at a boundary, with the content before it.
    pub(crate) fn state(&self, window: &[u8]) -> Option<Vec<u8>> {
        let boundary = self.boundary.as_ref()?;
        let window = &window[window.len().saturating_sub(WINDOW)..];
        Some([&[boundary.num_bits, boundary.bit_buf], window].concat())
    }

    /// A decoder that continues with a state. `None` if the state is invalid.
    pub(crate) fn resume(state: &[u8]) -> Option<Self> {
        let ([num_bits, bit_buf], window) = state.split_first_chunk()?;
        if *num_bits > 7 || u32::from(*bit_buf) >> num_bits != 0 || window.len() > WINDOW {
            return None;
        }
        let state = BlockBoundaryState {
            num_bits: *num_bits,
            bit_buf: *bit_buf,
            ..BlockBoundaryState::default()
        };
        let mut inflater = Self {
            core: Box::new(DecompressorOxide::from_block_boundary_state(&state)),
            at: window.len(),
            ..Self::new()
        };
        inflater.ring[..window.len()].copy_from_slice(window);
        Some(inflater)
    }
}
