//! Uncompressed payloads.
//!
//! Every frame of a sealed payload is read and digested. Of other payloads only the sections and the
//! page-table pages are read, since no rule applies to the rest.

use xxhash_rust::xxh64::xxh64;

use super::buffers::Buffers;
use super::content::Context;
use super::walked::{Derived, MARK_EVERY, PIECE, Walked};
use crate::container::Layout;
use crate::facts::Container;
use crate::input::Input;
use crate::probe;
use crate::report::Stop;
use crate::workers::{self, Pump};

/// Reads the payload of `layout`.
pub(super) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    let mut walked = Walked::new(layout.start);
    walked.mark(layout.start, cx.options.memory);
    if layout.container == Container::Saved {
        cx.intake.expect_exactly(layout.end - layout.start);
    }
    if layout.container == Container::Sealed {
        let plain = probe::locate_plain(cx.input)?;
        walked.seal = Some(plain.start);
        walked.end = plain.data;
        walked.content_len = plain.data;
        cx.intake.expect_exactly(plain.data);
        if let (Some(frame_size), false) = (plain.frame_size, cx.quick()) {
            let (threads, memory) = (cx.options.threads, cx.frame_memory());
            let mut pump = Chunks {
                at: 0,
                end: plain.data,
                size: u64::from(frame_size),
                buffers: cx.buffers(),
                walked: &mut walked,
                cx,
            };
            workers::run(&mut pump, threads, memory)?;
        } else {
            cx.intake.expect_len(plain.data);
            needed(layout.start, plain.data, cx)?;
        }
        return Ok(walked);
    }
    let window = layout.end.saturating_sub(layout.start);
    cx.intake.expect_len(window);
    needed(layout.start, layout.end, cx)?;
    let formula = cx.intake.formula().filter(|f| *f <= window);
    let stated = layout.header.as_ref().map(|h| h.dumplength());
    let stated = stated.filter(|d| *d <= window && window - d < 16384);
    walked.content_len = formula.or(stated).unwrap_or(window);
    walked.end = layout.start + walked.content_len;
    Ok(walked)
}

/// Reads what the intake needs of the payload at `start..end`.
fn needed(start: u64, end: u64, cx: &mut Context<'_>) -> Result<(), Stop> {
    let mut piece = vec![0; PIECE];
    while let Some(at) = cx.intake.wants() {
        let Some(from) = start.checked_add(at).filter(|from| *from < end) else {
            break;
        };
        cx.intake.skip_to(at);
        let want = usize::try_from(end - from).unwrap_or(usize::MAX);
        let want = want.min(cx.intake.stretch()).min(PIECE);
        let got = cx.input.read(&mut piece[..want], from)?;
        if got == 0 {
            break;
        }
        cx.intake.push(&piece[..got], cx.sink)?;
        cx.advance(got as u64, got as u64)?;
    }
    Ok(())
}

/// The frames of a sealed payload.
struct Chunks<'a, 'b, 'c> {
    at: u64,
    end: u64,
    size: u64,
    buffers: Buffers,
    walked: &'a mut Walked,
    cx: &'b mut Context<'c>,
}

impl Pump for Chunks<'_, '_, '_> {
    type Job = Vec<u8>;
    type Done = (Vec<u8>, u64);

    fn next_job(&mut self) -> Result<Option<(Vec<u8>, u64)>, Stop> {
        let len = self.size.min(self.end.saturating_sub(self.at));
        if len == 0 {
            return Ok(None);
        }
        // At most `seal::format::FRAME_MAX`, and within the file.
        let input = self.cx.input;
        let bytes = self.buffers.filled(input, self.at, len as usize)?;
        self.at += len;
        let cost = bytes.capacity() as u64;
        Ok(Some((bytes, cost)))
    }

    fn work(bytes: Vec<u8>) -> (Vec<u8>, u64) {
        let digest = xxh64(&bytes, 0);
        (bytes, digest)
    }

    fn done(&mut self, (bytes, digest): (Vec<u8>, u64)) -> Result<(), Stop> {
        let len = bytes.len() as u32;
        let derived = Derived {
            stored_len: len,
            content_check: digest as u32,
            stored_check: (digest >> 32) as u32,
            content_len: len,
        };
        self.walked.frames += 1;
        self.walked.derive(self.cx.options.memory, derived)?;
        self.cx.intake.push(&bytes, self.cx.sink)?;
        self.buffers.give(bytes);
        self.cx.advance(len.into(), len.into())
    }
}

/// See [`super::replay`].
pub(super) fn replay(
    input: &Input,
    from: u64,
    end: u64,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let mut at = from;
    let piece = PIECE.min(MARK_EVERY as usize);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece);
        let bytes = input.up_to(at, want)?;
        if bytes.is_empty() || !take(&bytes) {
            break;
        }
        at += bytes.len() as u64;
    }
    Ok(())
}
