//! Sequential decoding of zstd frames, including skippable ones.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::input::{Input, cut};
use super::{Decoded, Engine, Next};
use crate::zstd_format::{FRAME_HEADER_MAX, FrameHeader, MAGIC, is_skippable};
use crate::{Codec, Error};

/// Decodes frames block by block.
pub(super) struct Blocks {
    context: DCtx<'static>,
    max_window: u64,
    /// Number of bytes that the library asks for next: a header or a block. With more input, it would
    /// drop output when it finds damage later.
    wanted: usize,
}

/// Number of bytes that the library asks for first.
const FIRST: usize = 5;

impl Blocks {
    /// An engine that rejects frames with a window above `max_window`.
    pub(super) fn new(max_window: u64) -> Self {
        Self {
            context: DCtx::create(),
            max_window,
            wanted: FIRST,
        }
    }
}

impl Engine for Blocks {
    fn begin(&mut self, input: &mut Input, number: u64) -> Result<Next, Error> {
        self.wanted = FIRST;
        let at = input.position();
        let head = input.ensure(FRAME_HEADER_MAX)?;
        let magic = head.first_chunk().map(|m| u32::from_le_bytes(*m));
        if head.is_empty() || magic.is_some_and(is_skippable) {
            return Ok(match head.is_empty() {
                true => Next::Other,
                false => Next::Skippable,
            });
        }
        let Some(header) = FrameHeader::parse(head) else {
            // A truncated header is a truncated frame, not other bytes.
            let begun = head.len().min(4);
            if head[..begun] == MAGIC.to_le_bytes()[..begun] && head.len() < FRAME_HEADER_MAX {
                let end = at + head.len() as u64;
                let region = Codec::Zstd.region(number);
                return Err(cut(region, at, end, "the rest of the frame header"));
            }
            return Ok(Next::Other);
        };
        if header.window > self.max_window {
            return Err(Error::Memory {
                what: format!("the window of zstd frame {number} at {at:#x}"),
                needed: header.window,
                limit: self.max_window,
            });
        }
        // Raise the library's own limit, a power of two, as needed.
        let log = header.window.max(1 << 10).next_power_of_two().ilog2();
        self.context
            .set_parameter(DParameter::WindowLogMax(log.clamp(27, 31)))
            .map_err(|code| Error::Options(format!("zstd: {}", get_error_name(code))))?;
        Ok(Next::Frame)
    }

    fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> Decoded {
        let mut stored = InBuffer::around(&stored[..self.wanted.min(stored.len())]);
        let mut decoded = OutBuffer::around(out);
        let result = self.context.decompress_stream(&mut decoded, &mut stored);
        Decoded {
            used: stored.pos(),
            made: decoded.pos(),
            ended: match result {
                Ok(left) => {
                    self.wanted = left.max(1);
                    Ok(left == 0)
                }
                Err(code) => Err(get_error_name(code).to_lowercase()),
            },
        }
    }

    fn expected(&self) -> &'static str {
        "a frame that decodes"
    }

    fn trailer_len(&self) -> usize {
        // The library checks the checksum.
        0
    }

    fn check(&mut self, _: &[u8], _: u64, _: u64) -> Result<(), Error> {
        Ok(())
    }
}
