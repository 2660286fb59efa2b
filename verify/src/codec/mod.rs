//! From stored bytes to content: frames are found by their own structure, decoded, checked, and
//! handed on in order.
//!
//! Small frames are decoded by workers, frames that are too large to be held (a kernel writes one
//! frame for the whole dump) by the caller's thread, piece by piece. Both end in
//! [`Content::push`], which sees the content once, from its beginning to its end, and keeps what it
//! needs. A frame that cannot be decoded leaves a gap of the length that it states; the frames
//! behind it are still checked.

mod gzip;
mod gzip_read;
mod plain;
mod zstd;
mod zstd_read;

use livecore_compress::{Codec, Progress};
use xxhash_rust::xxh64::xxh64;

use crate::container::Layout;
use crate::finding::Sink;
use crate::input::Input;
use crate::options::{Depth, Options};
use crate::report::Stop;

/// Most stored bytes of a frame that is decoded whole.
const STORED_MAX: u64 = 64 << 20;
/// Most content bytes of a frame that is decoded whole.
const CONTENT_MAX: u64 = 64 << 20;
/// Bytes read and decoded at a time where frames are not.
const PIECE: usize = 128 << 10;
/// Content between two marks.
const MARK_EVERY: u64 = 1 << 20;

/// Takes the content that a walk decodes, in order.
pub(crate) trait Content {
    /// Says how long the content is.
    fn expect_len(&mut self, len: u64);

    /// Says how long the content is to the byte.
    fn expect_exactly(&mut self, len: u64);

    /// The length that the content's own headers give.
    fn formula(&self) -> Option<u64>;

    /// Where the next byte that is needed lies, if any is.
    fn wants(&self) -> Option<u64>;

    /// Goes on at `at`, which [`Content::wants`] gave.
    fn skip_to(&mut self, at: u64);

    /// How many bytes in a row are needed where [`Content::wants`] points.
    fn stretch(&self) -> usize;

    /// Whether all that `--quick` looks at was seen, or nothing more will be.
    fn has_sections(&self) -> bool;

    /// Sees the next bytes.
    fn push(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Stop>;

    /// `len` bytes that could not be had; all that follow if it is not known how many.
    fn gap(&mut self, len: Option<u64>, sink: &mut Sink);
}

/// What a walk works with.
pub(crate) struct Context<'a> {
    pub(crate) input: &'a Input,
    pub(crate) options: &'a Options<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) sink: &'a mut Sink,
    pub(crate) intake: &'a mut dyn Content,
}

impl Context<'_> {
    fn quick(&self) -> bool {
        self.options.depth == Depth::Quick
    }

    /// Tells the progress of `content` and `stored` bytes, and hears whether to stop.
    fn advance(&self, content: u64, stored: u64) -> Result<(), Stop> {
        self.progress.advance(content, stored);
        if self.progress.cancelled() {
            return Err(Stop::Failed("cancelled".into()));
        }
        Ok(())
    }

    /// Memory for frames under way.
    fn frame_memory(&self) -> u64 {
        self.options.memory / 4
    }

    fn buffers(&self) -> Buffers {
        Buffers::new(self.options.memory)
    }
}

/// Buffers that a walk uses again: fresh memory for each frame costs the kernel as much time as
/// its digests cost us.
///
/// One that was needed for a large frame stays large. So a job is charged with the room of its
/// buffers, however little of it is used, and those that wait for a job have a bound together.
struct Buffers {
    waiting: Vec<Vec<u8>>,
    /// The room of those that wait.
    held: u64,
    /// The most of it.
    most: u64,
}

impl Buffers {
    /// None yet, and later as many as an eighth of a run's memory holds.
    fn new(memory: u64) -> Self {
        Self {
            waiting: Vec::new(),
            held: 0,
            most: memory / 8,
        }
    }

    /// An empty buffer.
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.waiting.pop().unwrap_or_default();
        self.held -= buffer.capacity() as u64;
        buffer
    }

    /// Takes one back that nobody needs any more.
    fn give(&mut self, mut buffer: Vec<u8>) {
        let room = buffer.capacity() as u64;
        if self.held.saturating_add(room) > self.most {
            return;
        }
        self.held += room;
        buffer.clear();
        self.waiting.push(buffer);
    }

    /// An empty buffer with room for `len` bytes. Where a process may have less memory than the run,
    /// that ends the run and not the process.
    fn room(&mut self, len: u64) -> Result<Vec<u8>, Stop> {
        let mut buffer = self.take();
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        match buffer.try_reserve_exact(wanted) {
            Ok(()) => Ok(buffer),
            Err(error) => Err(Stop::Failed(format!("{len} bytes for a frame: {error}"))),
        }
    }

    /// A buffer with the `len` bytes at `offset`, or as many as there are. The file has been seen
    /// to be so long.
    fn filled(&mut self, input: &Input, offset: u64, len: usize) -> Result<Vec<u8>, Stop> {
        let mut buffer = self.room(len as u64)?;
        buffer.resize(len, 0);
        let got = input.read(&mut buffer, offset)?;
        buffer.truncate(got);
        Ok(buffer)
    }
}

/// What is met where a frame could begin, looks like one, and is none.
#[derive(Debug)]
struct Malformed {
    at: u64,
    found: String,
    expected: String,
}

/// What a seal's index says of one frame, derived from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) stored_len: u32,
    /// Low half of the content's XXH64; of gzip its CRC-32.
    pub(crate) content_check: u32,
    /// High half of the XXH64 of the frame as it is stored.
    pub(crate) stored_check: u32,
    /// Bytes of content.
    pub(crate) content_len: u32,
}

/// A frame that can be decoded again: where it is stored and where its content begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) stored: u64,
    pub(crate) content: u64,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Data frames.
    pub(crate) frames: u64,
    /// Where the data frames end.
    pub(crate) end: u64,
    /// Where a seal begins, if one follows them.
    pub(crate) seal: Option<u64>,
    /// Each data frame, as a seal's index has it; empty where frames were too large for that.
    pub(crate) derived: Vec<Derived>,
    /// Frames at which decoding can begin, at least [`MARK_EVERY`] bytes of content apart, and
    /// farther where they would become too many.
    pub(crate) marks: Vec<Mark>,
    /// Bytes of content between two marks; 0 stands for [`MARK_EVERY`].
    mark_every: u64,
    /// Bytes of content, gaps included.
    pub(crate) content_len: u64,
    /// Whether every frame was there and could be decoded, so that `content_len` is true.
    pub(crate) whole: bool,
    /// Whether every frame was walked: `--quick` cannot walk gzip members that do not say their
    /// length.
    pub(crate) complete: bool,
    /// The first gzip member that does not say how long it is; every one of a sealed file does.
    pub(crate) unsaid: Option<u64>,
    /// Whether frames were walked without being decoded, as `--quick` does behind the sections:
    /// `content_len` is then not known.
    pub(crate) skimmed: bool,
}

impl Walked {
    fn new(start: u64) -> Self {
        Self {
            end: start,
            whole: true,
            complete: true,
            ..Self::default()
        }
    }

    /// Notes that a frame begins here; marks take an eighth of `memory` at most.
    fn mark(&mut self, stored: u64, memory: u64) {
        let content = self.content_len;
        let every = self.mark_every.max(MARK_EVERY);
        let far = self
            .marks
            .last()
            .is_none_or(|last| content >= last.content.saturating_add(every));
        if !far {
            return;
        }
        // A vector that grows may have twice the room that it needs.
        let most = memory / 16 / size_of::<Mark>() as u64;
        if self.marks.len() as u64 >= most.max(2) {
            let mut even = false;
            self.marks.retain(|_| {
                even = !even;
                even
            });
            self.mark_every = every.saturating_mul(2);
        }
        self.marks.push(Mark { stored, content });
    }

    /// Keeps what the index of a seal would say, while that is bounded.
    fn derive(&mut self, memory: u64, derived: Derived) -> Result<(), Stop> {
        let needed = (self.derived.len() as u64 + 1) * size_of::<Derived>() as u64;
        if needed > memory / 4 {
            return Err(Stop::Failed(format!(
                "{} frames need more memory than the limit of {memory} bytes allows",
                self.frames
            )));
        }
        self.derived.push(derived);
        Ok(())
    }
}

/// Walks the stored payload that `layout` describes and feeds its content to the intake.
pub(crate) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    match layout.codec {
        Codec::None => plain::walk(layout, cx),
        Codec::Gzip => gzip_read::walk(layout, cx),
        Codec::Zstd => zstd_read::walk(layout, cx),
    }
}

/// What a job costs that has these buffers, however little of them it uses.
fn cost(stored: &Vec<u8>, room: &Vec<u8>) -> u64 {
    (stored.capacity() as u64).saturating_add(room.capacity() as u64)
}

/// The high half of the XXH64 of a frame as it is stored.
fn stored_check(bytes: &[u8]) -> u32 {
    (xxh64(bytes, 0) >> 32) as u32
}

/// The content from the mark on, in pieces, until `take` has seen enough and says `false`. What is
/// damaged ends it early.
pub(crate) fn replay(
    input: &Input,
    codec: Codec,
    mark: Mark,
    end: u64,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    match codec {
        Codec::None => plain::replay(input, mark.stored, end, take),
        Codec::Gzip => gzip_read::replay(input, mark.stored, end, take),
        Codec::Zstd => zstd_read::replay(input, mark.stored, end, take),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_wait_are_bounded_together_and_jobs_pay_for_their_room() {
        let mut buffers = Buffers::new(8 << 20);
        for room in [600 << 10, 600 << 10, 300 << 10, 2 << 20, 0] {
            buffers.give(Vec::with_capacity(room));
        }
        assert!(buffers.held <= 1 << 20);
        let rooms = buffers.waiting.iter().map(Vec::capacity);
        assert_eq!(rooms.sum::<usize>() as u64, buffers.held);
        assert_eq!(buffers.waiting.len(), 3);
        let (small, large) = (buffers.take(), buffers.take());
        assert_eq!(buffers.held, 600 << 10);
        assert_eq!(cost(&small, &large), 300 << 10);
        buffers.give(large);
        assert_eq!(buffers.room(10).unwrap().capacity(), 300 << 10);
        let refused = buffers.room(u64::MAX).unwrap_err();
        assert!(matches!(refused, Stop::Failed(why) if why.contains("for a frame")));
    }
}
