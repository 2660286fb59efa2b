//! zstd frames from the front of a stream.

use std::sync::Arc;

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::input::{Input, cut};
use crate::zstd_format::{FRAME_HEADER_MAX, FrameHeader, is_skippable};
use crate::{Error, ReadAt};

/// Decodes a stream of zstd frames, skippable ones included, with padding behind or not.
pub(crate) struct ZstdPass {
    input: Input,
    context: DCtx<'static>,
    max_window: u64,
    /// Frames begun.
    frames: u64,
    /// Where the frame that is being decoded began.
    frame_at: Option<u64>,
}

impl ZstdPass {
    pub(crate) fn new(source: Arc<dyn ReadAt>, max_window: u64) -> Self {
        Self {
            input: Input::new(source),
            context: DCtx::create(),
            max_window,
            frames: 0,
            frame_at: None,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.input.position()
    }

    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(frame_at) = self.frame_at else {
                if self.begin()? {
                    continue;
                }
                return Ok(0);
            };
            let stored = self.input.ensure(1)?;
            let ended = stored.is_empty();
            let mut stored = InBuffer::around(stored);
            let mut decoded = OutBuffer::around(&mut *out);
            let result = self.context.decompress_stream(&mut decoded, &mut stored);
            let (used, made) = (stored.pos(), decoded.pos());
            self.input.consume(used);
            match result {
                Ok(0) => self.frame_at = None,
                Ok(_) if ended && made == 0 => {
                    return Err(cut(
                        self.region(),
                        frame_at,
                        self.position(),
                        "the rest of the frame",
                    ));
                }
                Ok(_) => {}
                Err(code) => {
                    return Err(Error::Broken {
                        region: self.region(),
                        offset: frame_at,
                        found: get_error_name(code).to_lowercase(),
                        expected: "a frame that decodes".into(),
                    });
                }
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }

    fn region(&self) -> String {
        format!("zstd frame {}", self.frames.saturating_sub(1))
    }

    /// Looks at what comes next: a frame, or the end.
    fn begin(&mut self) -> Result<bool, Error> {
        let at = self.input.position();
        let head = self.input.ensure(FRAME_HEADER_MAX)?;
        if head.is_empty() {
            return Ok(false);
        }
        let magic = head.first_chunk().map(|m| u32::from_le_bytes(*m));
        if !magic.is_some_and(is_skippable) {
            let Some(header) = FrameHeader::parse(head) else {
                // A header cut short is a frame, not garbage.
                let begun = head.len().min(4);
                if head[..begun] == crate::zstd_format::MAGIC.to_le_bytes()[..begun]
                    && head.len() < FRAME_HEADER_MAX
                {
                    let end = at + head.len() as u64;
                    let region = format!("zstd frame {}", self.frames);
                    return Err(cut(region, at, end, "the rest of the frame header"));
                }
                if self.input.is_padding()? {
                    return Ok(false);
                }
                return Err(self.input.trailing());
            };
            if header.window > self.max_window {
                return Err(Error::Limit {
                    what: format!("the window of zstd frame {} at {at:#x}", self.frames),
                    needed: header.window,
                    limit: self.max_window,
                });
            }
            // The library's own limit, which counts in powers of two, has to let it through.
            let log = header.window.max(1 << 10).next_power_of_two().ilog2();
            self.context
                .set_parameter(DParameter::WindowLogMax(log.clamp(27, 31)))
                .map_err(|code| Error::Options(format!("zstd: {}", get_error_name(code))))?;
        }
        self.frames += 1;
        self.frame_at = Some(at);
        Ok(true)
    }
}
