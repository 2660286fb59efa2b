//! zstd frames decoded.

use std::cell::RefCell;

use ::zstd::bulk::Decompressor;
use ::zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};
use livecore_compress::seal::format::{MAGIC as SEAL_MAGIC, ZSTD_SEAL_MAGIC};

use super::zstd::{Frame, Step, step};
use super::{
    Buffers, CONTENT_MAX, Context, Derived, Malformed, PIECE, STORED_MAX, Walked, cost,
    stored_check,
};
use crate::container::Layout;
use crate::facts::Container;
use crate::finding::{Place, Region};
use crate::input::{Input, hex};
use crate::report::Stop;
use crate::rules;
use crate::workers::{self, Pump};

/// Walks, decodes and checks all frames of `layout`.
pub(super) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    let (threads, memory) = (cx.options.threads, cx.frame_memory());
    let mut pump = Frames {
        at: layout.start,
        limit: layout.end,
        walked: Walked::new(layout.start),
        large: None,
        malformed: None,
        ended: false,
        buffers: cx.buffers(),
        cx,
    };
    while !pump.ended {
        workers::run(&mut pump, threads, memory)?;
        if let Some((frame, cut)) = pump.large.take() {
            pump.decode_large(frame, cut)?;
        }
    }
    // Now that the frames in front of it are counted.
    if let Some(malformed) = pump.malformed.take() {
        let place = Place::file(pump.region(), malformed.at);
        let bytes = pump.cx.input.up_to(malformed.at, 32)?;
        pump.cx.sink.broken(&rules::ZSTD_FRAME, &place, |f| {
            f.found(malformed.found)
                .expected(malformed.expected)
                .bytes(malformed.at, &bytes)
        });
    }
    let Frames { walked, cx, .. } = pump;
    if layout.container == Container::Raw && walked.complete {
        let place = Place::file("zstd stream", layout.start);
        let one = walked.frames == 1;
        cx.sink.check(&rules::CODEC_SINGLE, one, &place, |f| {
            f.found(format!("{} frames", walked.frames))
                .expected("one frame, as a kernel writes")
        });
    }
    Ok(walked)
}

struct Frames<'a, 'b> {
    at: u64,
    limit: u64,
    walked: Walked,
    /// A frame for [`Frames::decode_large`], and whether the stream ends inside of it.
    large: Option<(Frame, bool)>,
    /// What is met where a frame could begin, and is none.
    malformed: Option<Malformed>,
    ended: bool,
    buffers: Buffers,
    cx: &'a mut Context<'b>,
}

struct Job {
    frame: Frame,
    bytes: Vec<u8>,
    /// Where the content goes.
    room: Vec<u8>,
}

thread_local! {
    /// A worker's decoder: making one costs as much as a small frame.
    static DECODER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decodes a whole frame into `room`.
fn decode_whole(stored: &[u8], most: usize, mut room: Vec<u8>) -> std::io::Result<Vec<u8>> {
    room.clear();
    room.reserve_exact(most);
    DECODER.with_borrow_mut(|decoder| {
        let decoder = match decoder {
            Some(decoder) => decoder,
            none => none.insert(Decompressor::new()?),
        };
        decoder.decompress_to_buffer(stored, &mut room)
    })?;
    Ok(room)
}

struct Done {
    frame: Frame,
    bytes: Vec<u8>,
    stored_check: u32,
    content_check: u32,
    content: Result<Vec<u8>, String>,
}

impl Pump for Frames<'_, '_> {
    type Job = Job;
    type Done = Done;

    fn next_job(&mut self) -> Result<Option<(Job, u64)>, Stop> {
        loop {
            if self.ended || self.large.is_some() {
                return Ok(None);
            }
            match step(self.cx.input, self.at, self.limit)? {
                Step::Frame(frame) => {
                    self.at = frame.end;
                    if self.walked.skimmed {
                        self.begin(&frame);
                        continue;
                    }
                    let (stored, content) = (frame.end - frame.at, content_bound(&frame));
                    let most = self.cx.frame_memory().min(CONTENT_MAX);
                    if self.cx.quick() || stored > STORED_MAX.min(most) || content > most {
                        self.large = Some((frame, false));
                        return Ok(None);
                    }
                    // Walked to its end, so the file holds these bytes.
                    let (input, len) = (self.cx.input, stored as usize);
                    let bytes = self.buffers.filled(input, frame.at, len)?;
                    let room = self.buffers.room(content)?;
                    let cost = cost(&bytes, &room);
                    return Ok(Some((Job { frame, bytes, room }, cost)));
                }
                Step::Skippable { magic, at, end } => self.skippable(magic, at, end)?,
                Step::End(0) => {
                    // The file's end says that it is a stream.
                    let bytes = self.cx.input.up_to(0, 4)?;
                    self.malformed(Malformed {
                        at: 0,
                        found: format!("{} at the file's beginning", hex(&bytes)),
                        expected: "28 b5 2f fd, which a frame begins with".into(),
                    });
                }
                Step::End(at) => self.end(at),
                Step::Malformed(malformed) => self.malformed(malformed),
                Step::Truncated(frame) => {
                    self.at = self.limit;
                    self.large = Some((frame, true));
                }
            }
        }
    }

    fn work(job: Job) -> Done {
        let most = usize::try_from(content_bound(&job.frame)).unwrap_or(usize::MAX);
        let content = decode_whole(&job.bytes, most, job.room).map_err(|e| e.to_string());
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
        self.begin(&done.frame);
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
        self.walked.derive(self.cx.options.memory, derived)?;
        self.buffers.give(done.bytes);
        match done.content {
            Ok(content) => {
                if done.frame.checksum {
                    self.cx.sink.passed(&rules::ZSTD_CHECKSUM);
                }
                self.came_out(&done.frame, content_len);
                self.cx.intake.push(&content, self.cx.sink)?;
                self.buffers.give(content);
            }
            Err(why) => {
                self.damaged(&done.frame, &why);
                self.cx.intake.gap(done.frame.possible(), self.cx.sink);
                self.walked.whole = false;
            }
        }
        self.walked.content_len = self.walked.content_len.saturating_add(content_len);
        self.cx.advance(content_len, stored)
    }
}

impl Frames<'_, '_> {
    /// The frame that comes next.
    fn region(&self) -> Region<'static> {
        Region::Nth("zstd frame", self.walked.frames)
    }

    /// The frame that has begun.
    fn this_region(&self) -> Region<'static> {
        Region::Nth("zstd frame", self.walked.frames.saturating_sub(1))
    }

    fn end(&mut self, at: u64) {
        self.ended = true;
        self.walked.end = at;
    }

    fn malformed(&mut self, malformed: Malformed) {
        self.walked.whole = false;
        self.end(malformed.at);
        self.malformed = Some(malformed);
    }

    fn skippable(&mut self, magic: u32, at: u64, end: u64) -> Result<(), Stop> {
        if magic == ZSTD_SEAL_MAGIC || self.cx.input.array(at + 8)? == Some(SEAL_MAGIC) {
            self.walked.seal = Some(at);
            self.end(at);
            return Ok(());
        }
        let place = Place::file("zstd stream", at);
        self.cx.sink.broken(&rules::ZSTD_SKIPPABLE, &place, |f| {
            f.found(format!(
                "a skippable frame {magic:#010x} of {} bytes",
                end - at
            ))
            .expected("data frames only")
        });
        self.at = end;
        Ok(())
    }

    /// The checks of a frame's header, and its count.
    fn begin(&mut self, frame: &Frame) {
        let place = Place::file(self.region(), frame.at);
        let sink = &mut *self.cx.sink;
        sink.passed(&rules::ZSTD_FRAME);
        sink.check(&rules::ZSTD_NO_CHECKSUM, frame.checksum, &place, |f| {
            f.found("no checksum").expected("a checksum of the content")
        });
        sink.check(&rules::ZSTD_DICTIONARY, !frame.dictionary, &place, |f| {
            f.found("a dictionary is needed").expected("no dictionary")
        });
        self.walked.mark(frame.at, self.cx.options.memory);
        self.walked.frames += 1;
    }

    /// `content_len` bytes came out of a frame that decodes. To a decoder the greatest length that
    /// can be declared stands for one that is not known.
    fn came_out(&mut self, frame: &Frame, content_len: u64) {
        if frame.declared.is_some_and(|len| len != content_len) {
            self.damaged(frame, &format!("{content_len} bytes came out"));
            self.walked.whole = false;
        } else {
            self.cx.sink.passed(&rules::ZSTD_CONTENT);
        }
    }

    fn damaged(&mut self, frame: &Frame, why: &str) {
        let place = Place::file(self.this_region(), frame.at);
        if why.contains("checksum") {
            self.cx.sink.broken(&rules::ZSTD_CHECKSUM, &place, |f| {
                f.found("content that does not match its checksum")
                    .expected("the content that was compressed")
            });
        } else {
            self.cx.sink.broken(&rules::ZSTD_CONTENT, &place, |f| {
                f.found(format!("blocks that do not decode: {}", why.to_lowercase()))
                    .expected(match frame.declared {
                        Some(len) => format!("{len} bytes of content"),
                        None => "content".into(),
                    })
            });
        }
    }

    /// Decodes one frame piece by piece; all there is of it if it is `cut`.
    fn decode_large(&mut self, frame: Frame, cut: bool) -> Result<(), Stop> {
        self.begin(&frame);
        if cut {
            let (place, limit) = (Place::file(self.this_region(), frame.at), self.limit);
            self.cx.sink.broken(&rules::ZSTD_TRUNCATED, &place, |f| {
                f.found(format!("the stream ends at {limit:#x}"))
                    .expected("the end of the frame before that")
            });
            self.walked.whole = false;
            self.end(self.limit);
        } else {
            self.cx.sink.passed(&rules::ZSTD_TRUNCATED);
        }
        let memory = self.cx.options.memory;
        if frame.window > memory / 2 && frame.window > 1 << 27 {
            return Err(Stop::Failed(format!(
                "a zstd frame wants a window of {} bytes, the limit is {}",
                frame.window,
                memory / 2
            )));
        }
        let mut content_len = 0_u64;
        let cx = &mut *self.cx;
        let limit = if cut { self.limit } else { frame.end };
        let quick = cx.quick();
        let mut stopped = false;
        let result = decode(cx.input, frame.at, limit, &mut |content, stored| {
            content_len += content.len() as u64;
            cx.intake.push(content, cx.sink)?;
            cx.advance(content.len() as u64, stored)?;
            stopped = quick && cx.intake.has_sections();
            Ok(!stopped)
        })?;
        self.walked.content_len = self.walked.content_len.saturating_add(content_len);
        if stopped {
            self.walked.skimmed = true;
            self.walked.whole = false;
            return Ok(());
        }
        match result {
            Ok(()) if !cut => {
                if frame.checksum {
                    self.cx.sink.passed(&rules::ZSTD_CHECKSUM);
                }
                self.came_out(&frame, content_len);
            }
            Ok(()) => {}
            Err(why) => {
                if !cut {
                    self.damaged(&frame, &why);
                }
                let missing = frame.possible().map(|d| d.saturating_sub(content_len));
                self.cx.intake.gap(missing, self.cx.sink);
                self.walked.whole = false;
            }
        }
        Ok(())
    }
}

/// No more content than this comes out of `frame`.
fn content_bound(frame: &Frame) -> u64 {
    frame.declared.unwrap_or(u64::MAX).min(frame.most)
}

/// Decodes the frame at `from`, which ends at `to` or is cut there, and hands its content and the
/// stored bytes behind it to `take` until that says `false`. The inner result is about the frame.
#[expect(
    clippy::type_complexity,
    reason = "a sink of pieces reads better in place"
)]
fn decode(
    input: &Input,
    from: u64,
    to: u64,
    take: &mut dyn FnMut(&[u8], u64) -> Result<bool, Stop>,
) -> Result<Result<(), String>, Stop> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(31))?;
    let mut stored = vec![0; PIECE];
    let mut content = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(usize::MAX).min(PIECE);
        let got = input.read(&mut stored[..want], at)?;
        if got == 0 {
            break;
        }
        at += got as u64;
        let mut source = InBuffer::around(&stored[..got]);
        let mut told = 0;
        loop {
            let mut out = OutBuffer::around(&mut content[..]);
            let hint = match decoder.run(&mut source, &mut out) {
                Ok(hint) => hint,
                Err(e) => return Ok(Err(e.to_string())),
            };
            let filled = out.pos();
            let read = source.pos();
            if !take(&content[..filled], (read - told) as u64)? {
                return Ok(Ok(()));
            }
            told = read;
            if hint == 0 {
                let behind = at - got as u64 + read as u64;
                return Ok(if behind == to {
                    Ok(())
                } else {
                    Err(format!(
                        "the frame ends at {behind:#x}, its blocks at {to:#x}"
                    ))
                });
            }
            if read == got && filled < PIECE {
                break;
            }
        }
    }
    Ok(Err("the stream ends early".into()))
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
                let done = decode(input, frame.at, frame.end, &mut |content, _| {
                    more = take(content);
                    Ok(more)
                })?;
                more &= done.is_ok();
                at = frame.end;
            }
            Step::Truncated(frame) => {
                // What is there of it is all there is.
                let _ = decode(input, frame.at, end, &mut |content, _| Ok(take(content)))?;
                return Ok(());
            }
            Step::Skippable { end, .. } => at = end,
            Step::End(_) | Step::Malformed(_) => return Ok(()),
        }
    }
    Ok(())
}
