//! Decoding and checks of zstd frames.

use livecore_compress::seal::format::{MAGIC as SEAL_MAGIC, PART_MAGIC, ZSTD_SEAL_MAGIC};

use super::buffers::cost;
use super::content::Context;
use super::frames::{Frames, Words};
use super::walked::{CONTENT_MAX, Derived, Malformed, STORED_MAX, Walked, stored_check};
use super::zstd::{Frame, Step, step};
use super::zstd_decode::{self, Fault, WINDOW_MAX};
use crate::container::Layout;
use crate::finding::Location;
use crate::input::{Input, hex, number};
use crate::report::Stop;
use crate::rules;
use crate::workers::{self, Pump};

static WORDS: Words = Words {
    frame: "zstd frame",
    stream: "zstd stream",
    frames: "frames",
    one: "one frame, as a kernel writes",
    malformed: &rules::ZSTD_FRAME,
};

/// Windows up to this size are decoded regardless of the memory limit.
const WINDOW_MIN: u64 = 8 << 20;

/// Frames with content up to this size are decoded at once for a read of memory.
const SMALL: u64 = 4 << 20;

/// Walks, decodes and checks all frames of `layout`.
pub(super) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    let (threads, memory) = (cx.options.threads, cx.frame_memory());
    let mut walk = Walk(Frames::new(layout, &WORDS, cx));
    while !walk.0.ended {
        workers::run(&mut walk, threads, memory)?;
        if let Some((frame, cut)) = walk.0.large.take() {
            walk.decode_large(frame, cut)?;
        }
    }
    walk.0.finish(layout)
}

/// The large item is a frame, and whether the stream ends within it.
struct Walk<'a, 'b>(Frames<'a, 'b, (Frame, bool)>);

struct Job {
    frame: Frame,
    bytes: Vec<u8>,
    output: Vec<u8>,
}

struct Done {
    frame: Frame,
    bytes: Vec<u8>,
    stored_check: u32,
    content_check: u32,
    content: Result<Vec<u8>, Fault>,
}

impl Pump for Walk<'_, '_> {
    type Job = Job;
    type Done = Done;

    fn next_job(&mut self) -> Result<Option<(Job, u64)>, Stop> {
        loop {
            let walk = &mut self.0;
            if walk.ended || walk.large.is_some() {
                return Ok(None);
            }
            match step(walk.cx.input, walk.at, walk.limit)? {
                Step::Frame(frame) => {
                    walk.at = frame.end;
                    if walk.walked.skimmed {
                        self.begin(&frame)?;
                        self.0.walked.add(frame.possible());
                        continue;
                    }
                    let (stored, content) = (frame.end - frame.at, content_bound(&frame));
                    let most = walk.cx.frame_memory().min(CONTENT_MAX);
                    if walk.cx.quick() || stored > STORED_MAX.min(most) || content > most {
                        walk.large = Some((frame, false));
                        return Ok(None);
                    }
                    // The walk reached the frame's end, so these bytes are in the file.
                    let (input, len) = (walk.cx.input, stored as usize);
                    let bytes = walk.buffers.filled(input, frame.at, len)?;
                    let output = walk.buffers.with_capacity(content)?;
                    // A streaming decoder stores the window in addition to its output.
                    let window = frame.window.min(content);
                    let cost = cost(&bytes, &output).saturating_add(window);
                    return Ok(Some((
                        Job {
                            frame,
                            bytes,
                            output,
                        },
                        cost,
                    )));
                }
                Step::Skippable { magic, at, end } => self.skippable(magic, at, end)?,
                Step::End(0) => {
                    // The end of the file is that of a sealed zstd stream.
                    let bytes = walk.cx.input.up_to(0, 4)?;
                    walk.malformed(Malformed {
                        at: 0,
                        found: format!("{} at the beginning of the file", hex(&bytes)),
                        expected: "28 b5 2f fd, the magic of a frame".into(),
                    });
                }
                Step::End(at) => walk.end(at),
                Step::Malformed(malformed) => walk.malformed(malformed),
                Step::Truncated(frame) => {
                    walk.at = walk.limit;
                    walk.large = Some((frame, true));
                }
            }
        }
    }

    fn work(job: Job) -> Done {
        let most = usize::try_from(content_bound(&job.frame)).unwrap_or(usize::MAX);
        let content = zstd_decode::whole(&job.frame, &job.bytes, most, job.output);
        let content_check = if job.frame.checksum {
            job.bytes
                .last_chunk::<4>()
                .map_or(0, |tail| u32::from_le_bytes(*tail))
        } else {
            0
        };
        Done {
            frame: job.frame,
            stored_check: stored_check(&job.bytes),
            content_check,
            content,
            bytes: job.bytes,
        }
    }

    fn done(&mut self, done: Done) -> Result<(), Stop> {
        let stored = done.frame.end - done.frame.at;
        self.begin(&done.frame)?;
        let content_len = match &done.content {
            Ok(content) => content.len() as u64,
            Err(_) => done.frame.possible().unwrap_or(0),
        };
        let derived = Derived {
            // STORED_MAX and CONTENT_MAX are far below 2^32.
            stored_len: stored as u32,
            content_check: done.content_check,
            stored_check: done.stored_check,
            content_len: content_len as u32,
        };
        let memory = self.0.cx.options.memory;
        self.0.walked.derive(memory, derived)?;
        self.0.buffers.give(done.bytes);
        match done.content {
            Ok(content) => {
                self.check_length(&done.frame, content_len);
                let cx = &mut *self.0.cx;
                cx.intake.push(&content, cx.sink)?;
                self.0.buffers.give(content);
            }
            Err(fault) => {
                self.damaged(&done.frame, &fault);
                let cx = &mut *self.0.cx;
                cx.intake.gap(done.frame.possible(), cx.sink);
            }
        }
        self.0.walked.add(Some(content_len));
        self.0.cx.advance(content_len, stored)
    }
}

impl Walk<'_, '_> {
    fn skippable(&mut self, magic: u32, at: u64, end: u64) -> Result<(), Stop> {
        let walk = &mut self.0;
        let input = walk.cx.input;
        let content = input.array(at + 8)?;
        if magic == ZSTD_SEAL_MAGIC || matches!(content, Some(SEAL_MAGIC | PART_MAGIC)) {
            // The seal's frame follows one with parts.
            let next = input.up_to(end, 16)?;
            let ours = number(&next, 0, 4) == u64::from(ZSTD_SEAL_MAGIC);
            let parts = content != Some(SEAL_MAGIC) && (ours || next.ends_with(&SEAL_MAGIC));
            walk.walked.seal = Some(if parts { end } else { at });
            walk.end(at);
            return Ok(());
        }
        let place = Location::file("zstd stream", at);
        walk.cx.sink.broken(&rules::ZSTD_SKIPPABLE, &place, |f| {
            f.found(format!(
                "a skippable frame {magic:#010x} of {} bytes",
                end - at
            ))
            .expected("data frames only")
        });
        walk.at = end;
        Ok(())
    }

    /// Checks a frame's header, and counts the frame.
    fn begin(&mut self, frame: &Frame) -> Result<(), Stop> {
        let walk = &mut self.0;
        let place = Location::file(walk.region(), frame.at);
        let sink = &mut *walk.cx.sink;
        sink.passed(&rules::ZSTD_FRAME);
        sink.check(&rules::ZSTD_NO_CHECKSUM, frame.checksum, &place, |f| {
            f.found("no checksum").expected("a checksum of the content")
        });
        sink.check(&rules::ZSTD_DICTIONARY, !frame.dictionary, &place, |f| {
            f.found("a dictionary id").expected("no dictionary")
        });
        let most = walk.cx.options.memory.max(WINDOW_MIN);
        // A window larger than WINDOW_MAX is damage, which decoding reports.
        if frame.window > most && frame.window <= WINDOW_MAX {
            return Err(Stop::Failed(format!(
                "the window of the zstd frame at {:#x} needs {} bytes of memory, the limit is {most}; \
                 use --memory {}",
                frame.at, frame.window, frame.window
            )));
        }
        walk.count(frame.at);
        Ok(())
    }

    /// Compares the content length of a decoded frame with its header. The library takes the largest
    /// length that a header can state for an unknown length, and does not compare it.
    fn check_length(&mut self, frame: &Frame, content_len: u64) {
        if frame.checksum {
            self.0.cx.sink.passed(&rules::ZSTD_CHECKSUM);
        }
        if frame.declared.is_some_and(|len| len != content_len) {
            self.damaged(
                frame,
                &Fault::Blocks(format!("the content has {content_len} bytes")),
            );
        } else {
            self.0.cx.sink.passed(&rules::ZSTD_CONTENT);
        }
    }

    fn damaged(&mut self, frame: &Frame, fault: &Fault) {
        self.0.walked.lose();
        let place = Location::file(self.0.this_region(), frame.at);
        let sink = &mut *self.0.cx.sink;
        match fault {
            Fault::Checksum => sink.broken(&rules::ZSTD_CHECKSUM, &place, |f| {
                f.found("content that does not match its checksum")
                    .expected("content that matches")
            }),
            Fault::Blocks(why) => sink.broken(&rules::ZSTD_CONTENT, &place, |f| {
                f.found(format!("blocks that do not decode: {why}"))
                    .expected(match frame.declared {
                        Some(len) => format!("{len} bytes of content"),
                        None => "content".into(),
                    })
            }),
        }
    }

    /// Decodes one frame piece by piece. `cut` means that the stream ends within it.
    fn decode_large(&mut self, frame: Frame, cut: bool) -> Result<(), Stop> {
        self.begin(&frame)?;
        let walk = &mut self.0;
        if cut {
            let (place, limit) = (Location::file(walk.this_region(), frame.at), walk.limit);
            walk.cx.sink.broken(&rules::ZSTD_TRUNCATED, &place, |f| {
                f.found(format!("the stream ends at {limit:#x}"))
                    .expected("the end of the frame before that")
            });
            walk.walked.lose();
            walk.end(limit);
        } else {
            walk.cx.sink.passed(&rules::ZSTD_TRUNCATED);
        }
        let mut content_len = 0_u64;
        let limit = if cut { walk.limit } else { frame.end };
        let cx = &mut *walk.cx;
        let quick = cx.quick();
        let mut stopped = false;
        let result = zstd_decode::in_pieces(cx.input, frame.at, limit, &mut |content, stored| {
            content_len += content.len() as u64;
            cx.intake.push(content, cx.sink)?;
            cx.advance(content.len() as u64, stored)?;
            stopped = quick && cx.intake.has_sections();
            Ok(!stopped)
        })?;
        if stopped {
            walk.walked.skimmed = true;
            walk.walked.whole = false;
            walk.walked.add(frame.possible());
            return Ok(());
        }
        walk.walked.add(Some(content_len));
        match result {
            Ok(()) if !cut => self.check_length(&frame, content_len),
            Ok(()) => {}
            Err(fault) => {
                if !cut {
                    self.damaged(&frame, &fault);
                }
                let missing = frame.possible().map(|d| d.saturating_sub(content_len));
                let cx = &mut *self.0.cx;
                cx.intake.gap(missing, cx.sink);
            }
        }
        Ok(())
    }
}

/// Upper bound of the content length of `frame`.
fn content_bound(frame: &Frame) -> u64 {
    frame.declared.unwrap_or(u64::MAX).min(frame.most)
}

/// The content of a frame that is small and sound. It is decoded at once, which is faster than in
/// pieces.
fn small(input: &Input, frame: &Frame) -> Option<Vec<u8>> {
    let len = frame.declared.filter(|len| *len <= SMALL)?;
    let stored = frame.end.checked_sub(frame.at);
    // Frames of incompressible content are little longer than it.
    let stored = stored.filter(|stored| *stored <= 2 * SMALL)?;
    let stored = input.up_to(frame.at, stored as usize).ok()?;
    zstd_decode::whole(frame, &stored, len as usize, Vec::new()).ok()
}

/// See [`super::replay`].
pub(super) fn replay(
    input: &Input,
    from: u64,
    end: u64,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let mut at = from;
    let mut more = true;
    while more {
        match step(input, at, end)? {
            Step::Frame(frame) => {
                at = frame.end;
                if let Some(content) = small(input, &frame) {
                    more = take(&content);
                    continue;
                }
                let mut take = |content: &[u8], _| {
                    more = take(content);
                    Ok(more)
                };
                let done = zstd_decode::in_pieces(input, frame.at, frame.end, &mut take)?;
                more &= done.is_ok();
            }
            Step::Truncated(frame) => {
                let mut take = |content: &[u8], _| Ok(take(content));
                let _ = zstd_decode::in_pieces(input, frame.at, end, &mut take)?;
                return Ok(());
            }
            Step::Skippable { end, .. } => at = end,
            Step::End(_) | Step::Malformed(_) => return Ok(()),
        }
    }
    Ok(())
}
