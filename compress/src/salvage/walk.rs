//! A walk over the frames of a stream that continues after damage.
//!
//! A *run* is a sequence of contiguous frames; it ends where no frame begins. The frames of a run are
//! decoded in parallel. A frame that does not decode but is followed by others has lost its content,
//! and its length is still right. Frames at the end of a run that do not decode are ignored, since
//! their lengths may be wrong. The next run begins at the next frame that decodes and has the usual
//! content length. The search ends when it has done more work on frames that do not decode than the
//! stream's size justifies ([`Budget`]). A frame is found by its first bytes:
//!
//! * zstd: the magic;
//! * gzip: the 16 bytes of a member's header before the stated lengths.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use super::budget::{Budget, Counted};
use super::place::{Run, WalkedFrame};
use crate::decode::frame::{FrameDecoder, Kind};
use crate::decode::input::PADDING_MAX;
use crate::frames::{FoundKind, Frames};
use crate::gzip_format::EXTRA_HEADER;
use crate::pipeline::{self, Job};
use crate::seal::format::{FRAME_MAX, GZIP_DATA, ZSTD_SEAL_MAGIC};
use crate::seal::read::longest_frame;
use crate::stream::OpenOptions;
use crate::table::{Entry, Frame};
use crate::zero::is_zero;
use crate::zstd_format::MAGIC;
use crate::{Codec, Error, Progress, ReadAt};

/// Number of bytes to search at a time.
const PIECE: usize = 1 << 20;

/// Why a run ended.
enum Stop {
    /// The end of the stream, or a seal.
    End,
    /// Other bytes; a description.
    Broken(String),
}

/// Whether the stream begins with a frame that can be decoded independently in bounded memory.
pub(super) fn begins_with_small_frame(
    source: &dyn ReadAt,
    codec: Codec,
    limit: u64,
) -> Result<bool, Error> {
    // Only the header matters: the first frame may be damaged.
    match codec {
        Codec::None => Ok(false),
        Codec::Zstd => {
            let header = Frames::new(source, codec, limit).peek_zstd()?;
            let len = header.and_then(|h| h.content_len);
            Ok(len.is_some_and(|len| len <= FRAME_MAX.into()))
        }
        Codec::Gzip => {
            let mut head = [0; 16];
            let got = source.read_full_at(&mut head, 0).map_err(Error::Read)?;
            Ok(got == head.len() && head == gzip_signature())
        }
    }
}

/// All runs of the first `limit` bytes.
pub(super) fn walk(
    source: &Arc<dyn ReadAt>,
    codec: Codec,
    limit: u64,
    options: &OpenOptions,
    progress: &dyn Progress,
) -> Result<Vec<Run>, Error> {
    let (threads, mut budget) = (options.threads, Budget::new(limit, options.memory));
    let mut runs: Vec<Run> = Vec::new();
    let (mut at, mut number, mut usual) = (0, 0, None);
    loop {
        let counted = Counted::new(&**source);
        let (mut frames, stop) = structure(&counted, codec, at, limit, number, &budget)?;
        let needed = frames.iter().map(|f| 8 + u64::from(f.content_len >> 14));
        budget.spend(counted.reads().saturating_sub(needed.sum()), 0);
        let listed: Vec<_> = frames.iter().map(WalkedFrame::listed).collect();
        let good = check(source, codec, false, &listed, threads, progress)?;
        for (frame, good) in frames.iter_mut().zip(good) {
            frame.good = good;
        }
        let mut resume = frames.last().map_or(at, WalkedFrame::end).saturating_add(1);
        if let Stop::Broken(_) = stop {
            while let Some(last) = frames.pop_if(|last| !last.good) {
                resume = last.offset + 1;
                budget.spend(1, last.content_len.into());
            }
        }
        usual = usual.or(frames.iter().find(|f| f.good).map(|f| f.content_len));
        number += frames.len() as u64;
        let stopped = match stop {
            Stop::End => None,
            Stop::Broken(what) => Some(what),
        };
        let ended = stopped.is_none();
        runs.push(Run {
            start: at,
            frames,
            stopped,
        });
        if ended {
            return Ok(runs);
        }
        let next = next(source, codec, resume..limit, usual, &mut budget, progress)?;
        if budget.is_spent()
            && let Some(last) = runs.last_mut()
        {
            last.stopped = Some("too many damaged frames to search the rest".into());
            return Ok(runs);
        }
        match next {
            Some(found) => at = found,
            None => return Ok(runs),
        }
        // The gap between the runs counts as a frame.
        number += 1;
    }
}

/// The frames from `at`, by their headers.
fn structure(
    source: &dyn ReadAt,
    codec: Codec,
    at: u64,
    limit: u64,
    first: u64,
    budget: &Budget,
) -> Result<(Vec<WalkedFrame>, Stop), Error> {
    let mut found = Frames::starting(source, codec, at, limit);
    let mut frames = Vec::new();
    loop {
        let found = match found.next() {
            None => return Ok((frames, Stop::End)),
            Some(Ok(found)) => found,
            Some(Err(Error::Read(error))) => return Err(Error::Read(error)),
            Some(Err(Error::Broken { found, .. })) => {
                let end = frames.last().map_or(at, WalkedFrame::end);
                let stop = match is_padding(source, end, limit)? {
                    true => Stop::End,
                    false => Stop::Broken(found),
                };
                return Ok((frames, stop));
            }
            Some(Err(other)) => return Ok((frames, Stop::Broken(other.to_string()))),
        };
        if is_seal(found.kind) {
            return Ok((frames, Stop::End));
        }
        // A skippable frame of another program.
        if found.kind != FoundKind::Data {
            continue;
        }
        let lens = found
            .content_len
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n <= FRAME_MAX)
            .zip(u32::try_from(found.stored_len).ok())
            .filter(|(content, stored)| *stored <= longest_frame(codec, *content));
        let Some((content_len, stored_len)) = lens else {
            let what = "a frame that does not state its content length, or is too large";
            return Ok((frames, Stop::Broken(what.into())));
        };
        budget.check(first + frames.len() as u64)?;
        frames.push(WalkedFrame {
            number: first + frames.len() as u64,
            offset: found.offset,
            stored_len,
            content_len,
            good: false,
        });
    }
}

/// Whether a frame is part of a seal.
fn is_seal(kind: FoundKind) -> bool {
    matches!(
        kind,
        FoundKind::Seal(_) | FoundKind::Skippable(ZSTD_SEAL_MAGIC)
    )
}

/// Whether everything from `from` is padding.
fn is_padding(source: &dyn ReadAt, from: u64, limit: u64) -> Result<bool, Error> {
    let left = limit.saturating_sub(from);
    if left == 0 || left > PADDING_MAX {
        return Ok(false);
    }
    let mut bytes = vec![0; left as usize];
    let got = source.read_full_at(&mut bytes, from).map_err(Error::Read)?;
    Ok(is_zero(&bytes[..got]))
}

/// Offset of the next frame, from `from`, that decodes and has the usual content length. The last
/// frame of a stream may have less.
fn next(
    source: &Arc<dyn ReadAt>,
    codec: Codec,
    Range {
        start: from,
        end: limit,
    }: Range<u64>,
    usual: Option<u32>,
    budget: &mut Budget,
    progress: &dyn Progress,
) -> Result<Option<u64>, Error> {
    let gzip = gzip_signature();
    let zstd = MAGIC.to_le_bytes();
    let signature: &[u8] = if codec == Codec::Gzip { &gzip } else { &zstd };
    let mut decoder = FrameDecoder::default();
    let mut content = Vec::new();
    let mut bytes = vec![0; PIECE];
    let mut at = from;
    while at < limit {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let want = (limit - at).min(PIECE as u64) as usize;
        let got = source
            .read_full_at(&mut bytes[..want], at)
            .map_err(Error::Read)?;
        let piece = &bytes[..got];
        let hits = (0..got.saturating_sub(signature.len() - 1))
            .filter(|i| piece[*i] == signature[0] && piece[*i..].starts_with(signature));
        for hit in hits {
            if budget.is_spent() {
                return Ok(None);
            }
            let offset = at + hit as u64;
            let counted = Counted::new(&**source);
            let frame = one(&counted, codec, offset, limit)?;
            budget.spend(counted.reads(), 0);
            let Some(frame) = frame else { continue };
            let fits = match usual {
                Some(usual) if frame.content_len == usual => true,
                Some(usual) => {
                    let counted = Counted::new(&**source);
                    let ends = frame.content_len < usual && ends(&counted, codec, &frame, limit)?;
                    budget.spend(counted.reads(), 0);
                    ends
                }
                None => true,
            };
            if fits && decodes(&mut decoder, source, codec, &frame, &mut content)? {
                return Ok(Some(offset));
            }
            budget.spend(0, if fits { frame.content_len.into() } else { 0 });
        }
        if got < want || got < signature.len() {
            break;
        }
        at += (got - (signature.len() - 1)) as u64;
    }
    Ok(None)
}

/// The frame at `at`, by its headers.
fn one(
    source: &dyn ReadAt,
    codec: Codec,
    at: u64,
    limit: u64,
) -> Result<Option<WalkedFrame>, Error> {
    // Limit the walk to the longest frame: other bytes may look like blocks of any length.
    let end = at.saturating_add(longest_frame(codec, FRAME_MAX).into());
    let found = match Frames::starting(source, codec, at, limit.min(end)).next() {
        Some(Ok(found)) if found.kind == FoundKind::Data => found,
        Some(Err(Error::Read(error))) => return Err(Error::Read(error)),
        _ => return Ok(None),
    };
    let content = found.content_len.and_then(|n| u32::try_from(n).ok());
    let content = content.filter(|n| (1..=FRAME_MAX).contains(n));
    Ok(content
        .zip(u32::try_from(found.stored_len).ok())
        .filter(|(content, stored)| *stored <= longest_frame(codec, *content))
        .map(|(content_len, stored_len)| WalkedFrame {
            number: 0,
            offset: at,
            stored_len,
            content_len,
            good: false,
        }))
}

/// Whether a seal or the end of the stream follows `frame`.
fn ends(source: &dyn ReadAt, codec: Codec, frame: &WalkedFrame, limit: u64) -> Result<bool, Error> {
    if frame.end() >= limit {
        return Ok(true);
    }
    for found in Frames::starting(source, codec, frame.end(), limit) {
        match found {
            Ok(found) if is_seal(found.kind) => return Ok(true),
            Ok(found) if found.kind == FoundKind::Data => return Ok(false),
            // A skippable frame of another program.
            Ok(_) => {}
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(_) => return is_padding(source, frame.end(), limit),
        }
    }
    Ok(true)
}

fn decodes(
    decoder: &mut FrameDecoder,
    source: &Arc<dyn ReadAt>,
    codec: Codec,
    frame: &WalkedFrame,
    content: &mut Vec<u8>,
) -> Result<bool, Error> {
    let kind = Kind {
        codec,
        checked: false,
    };
    // FRAME_MAX at most.
    content.resize(frame.content_len as usize, 0);
    match decoder.decode(&**source, kind, &frame.listed(), content) {
        Ok(()) => Ok(true),
        Err(Error::Read(error)) => Err(Error::Read(error)),
        Err(_) => Ok(false),
    }
}

fn gzip_signature() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..10].copy_from_slice(&EXTRA_HEADER);
    bytes[10] = 12;
    bytes[12..14].copy_from_slice(&GZIP_DATA);
    bytes[14] = 8;
    bytes
}

/// Whether each of the frames decodes and, if `checked`, matches the digests in its entry.
pub(super) fn check(
    source: &Arc<dyn ReadAt>,
    codec: Codec,
    checked: bool,
    frames: &[Frame],
    threads: NonZeroUsize,
    progress: &dyn Progress,
) -> Result<Vec<bool>, Error> {
    let checks = Checks {
        source: &**source,
        kind: Kind { codec, checked },
        frames,
    };
    let mut good = Vec::with_capacity(frames.len());
    pipeline::run(&checks, threads, progress, &mut |number, bytes, decoded| {
        good.push(decoded);
        let stored = frames
            .get(usize::try_from(number).unwrap_or(usize::MAX))
            .map_or(0, |f| f.entry.stored_len);
        progress.advance(bytes.len() as u64, stored.into());
        Ok(())
    })?;
    Ok(good)
}

struct Checks<'a> {
    source: &'a dyn ReadAt,
    kind: Kind,
    frames: &'a [Frame],
}

impl Job for Checks<'_> {
    type Worker = FrameDecoder;
    type Note = bool;

    fn worker(&self) -> Result<FrameDecoder, Error> {
        Ok(FrameDecoder::default())
    }

    fn claim(&self, _: &mut FrameDecoder, number: u64) -> Result<bool, Error> {
        Ok(number < self.frames.len() as u64)
    }

    fn work(
        &self,
        decoder: &mut FrameDecoder,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        // `claim` accepts only numbers in the list.
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let frame = self.frames.get(at).ok_or(Error::Cancelled)?;
        out.resize(frame.content_len as usize, 0);
        match decoder.decode(self.source, self.kind, frame, out) {
            Ok(()) => Ok(true),
            Err(Error::Read(error)) => Err(Error::Read(error)),
            Err(_) => Ok(false),
        }
    }
}

impl WalkedFrame {
    /// End of the frame in the stream.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.stored_len)
    }

    /// The frame for a reader, without its content offset.
    pub(super) fn listed(&self) -> Frame {
        Frame {
            number: self.number,
            offset: self.offset,
            content_offset: 0,
            content_len: self.content_len,
            entry: Entry {
                stored_len: self.stored_len,
                ..Entry::default()
            },
        }
    }
}
