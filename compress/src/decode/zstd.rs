//! Sequential decoding of zstd frames, including skippable ones.

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::decoded::Decoded;
use super::input::{Input, cut};
use super::{Boundary, Engine, Next};
use crate::restart::followed::Followed;
use crate::restart::zstd::{Tracker, resume};
use crate::zstd_format::{
    BLOCK_HEADER_LEN, CHECKSUM_LEN, FRAME_HEADER_MAX, FrameHeader, MAGIC, invalid_zstd,
    is_skippable,
};
use crate::{Codec, Error};

/// Decodes frames block by block.
pub(super) struct Blocks {
    context: DCtx<'static>,
    max_window: u64,
    /// Number of bytes that the library asks for next: a header or a block. With more input, it would
    /// drop output when it finds damage later.
    wanted: usize,
    /// Follows the frame's blocks, to find restart points.
    tracker: Option<Tracker>,
    /// Whether the frame was resumed: the context has a dictionary, and cannot check the checksum.
    resumed: bool,
    /// Size of the checksum that the library does not consume.
    checksum_len: usize,
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
            tracker: None,
            resumed: false,
            checksum_len: 0,
        }
    }
}

impl Engine for Blocks {
    fn begin(&mut self, input: &mut Input, number: u64) -> Result<Next, Error> {
        self.wanted = FIRST;
        if std::mem::take(&mut self.resumed) {
            self.context = DCtx::create();
            self.checksum_len = 0;
        }
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
        if let Some(tracker) = &mut self.tracker {
            *tracker = Tracker::new();
        }
        Ok(Next::Frame)
    }

    fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> Decoded {
        let available = stored;
        let mut stored = InBuffer::around(&stored[..self.wanted.min(stored.len())]);
        let mut decoded = OutBuffer::around(out);
        let result = self.context.decompress_stream(&mut decoded, &mut stored);
        if let (Some(tracker), Ok(_)) = (&mut self.tracker, result) {
            tracker.see(&available[..stored.pos()]);
        }
        Decoded {
            used: stored.pos(),
            made: decoded.pos(),
            ended: match result {
                Ok(left) => {
                    self.wanted = left.max(1);
                    Ok(left == 0)
                }
                Err(code) => Err(invalid_zstd(code)),
            },
        }
    }

    fn expected(&self) -> &'static str {
        "valid zstd data"
    }

    fn trailer_len(&self) -> usize {
        // Otherwise the library checks the checksum.
        self.checksum_len
    }

    fn check(&mut self, _: &[u8], _: u64, _: u64) -> Result<(), Error> {
        Ok(())
    }

    fn track(&mut self) {
        self.tracker.get_or_insert_with(Tracker::new);
    }

    fn boundary(&self) -> Option<Boundary> {
        let tracker = self.tracker.as_ref().filter(|t| t.at_boundary())?;
        Some(Boundary {
            consumed: BLOCK_HEADER_LEN,
            window: tracker.window(),
        })
    }

    fn state(&self, window: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
        let len: usize = window.iter().map(|piece| piece.len()).sum();
        let state = self.tracker.as_ref()?.state(len as u64)?;
        out.reserve(state.len() + len);
        out.extend(state);
        for piece in window {
            out.extend_from_slice(piece);
        }
        Some(())
    }

    fn follow(&mut self) {
        if let Some(tracker) = &mut self.tracker {
            tracker.follow();
        }
    }

    fn followed(&mut self) -> Option<Followed> {
        self.tracker.as_mut()?.followed()
    }

    fn resume(&mut self, state: &[u8]) -> Option<()> {
        let state = resume(state)?;
        let all = ResetDirective::SessionAndParameters;
        self.context.reset(all).ok()?;
        self.context.load_dictionary(state.dictionary).ok()?;
        let mut header = InBuffer::around(&state.header[..]);
        let mut none = [0; 1];
        let mut decoded = OutBuffer::around(&mut none[..]);
        self.wanted = self
            .context
            .decompress_stream(&mut decoded, &mut header)
            .ok()?;
        self.resumed = true;
        self.checksum_len = if state.checksum { CHECKSUM_LEN } else { 0 };
        (header.pos() == state.header.len()).then_some(())
    }
}
