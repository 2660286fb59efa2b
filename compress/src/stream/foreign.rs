//! Random access to a stream that can be decoded only from its beginning.
//!
//! One pass decodes the stream as far as it was read, and records restart points and a digest of
//! each frame of [`FRAME`] bytes. A read of content that was decoded before decodes it again from a
//! restart point (`restarts`): a read decodes a part of the stream, and content is not stored. Content
//! without a restart point near it (zstd frames with a large window, pathological streams) is stored
//! in the *spool*, an unlinked temporary file, in frames at zstd level 1. A stream that fits in one
//! frame is decoded to its end before the first read.
//!
//! After a pass to the end, the restart points can be kept (`restart_cache`); then the stream is open
//! without a pass.
//!
//! The checksum of such a stream is at its end, so what is read before the pass ends is not yet
//! checked. A caller that uses it should finish the pass.
//!
//! When the pass fails, complete frames and the content before a truncation can be read. Reads of the
//! damaged frame and of anything after it fail, as does asking for the length: the decoder may find
//! the damage long after the first wrong byte. Only salvage reads what decodes of a damaged frame.

use crate::spool::spool;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use xxhash_rust::xxh64::xxh64;

use super::options::{OpenOptions, Sink};
use super::point::{Point, SEGMENT_MAX, WINDOW_MAX, entry};
use super::reader::FrameReader;
use super::restart_cache::{Key, RestartCache};
use super::restarts::Restarts;
use super::unstored::Unstored;
use crate::decode::frame::Kind;
use crate::decode::{Pass, StreamPosition};
use crate::encode::FrameEncoder;
use crate::pipeline::{self, Job};
use crate::restart::deflate;
use crate::table::{Entry, FrameTable, too_long};
use crate::{Codec, Encoding, Error, Progress, ReadAt};

/// Content size of a frame.
const FRAME: u32 = 1 << 20;
/// Content size of a piece passed to a sink.
const PIECE: usize = 1 << 20;

const SPOOL: Kind = Kind {
    codec: Codec::Zstd,
    checked: true,
};

/// A foreign stream.
pub(super) struct Foreign {
    source: Arc<dyn ReadAt>,
    codec: Codec,
    max_window: u64,
    spool_dir: Option<PathBuf>,
    /// Whether to return the decodable content of a damaged frame.
    unproven: bool,
    /// The frames that the pass has decoded, and the spool.
    done: RwLock<Done>,
    restarts: Arc<Restarts>,
    /// Whether another thread compresses states.
    parallel: AtomicBool,
    /// Where restart points are kept, and what identifies the stream there.
    keep: Option<(RestartCache, Key)>,
    pass: Mutex<State>,
    /// The content's length, once all of it was decoded.
    whole: OnceLock<u64>,
    /// Bytes after the stream, if a pass found any.
    trailing: OnceLock<Error>,
    /// Whether the stream looks cut after a frame, once a pass reached its end.
    looks_cut: OnceLock<bool>,
    /// The failure of the pass.
    failure: OnceLock<Failure>,
    reader: FrameReader,
}

struct Done {
    table: FrameTable,
    spool: Option<Arc<File>>,
}

struct State {
    pass: Option<Pass>,
    engine: Option<FrameEncoder>,
    /// The last complete frames, as many as a window needs.
    history: VecDeque<Arc<Vec<u8>>>,
    /// The last restart point, until the pass is a window after it.
    unstored: Option<Unstored>,
    /// The restart point whose state is being stored.
    pending: Option<Pending>,
    /// Content offset of the last restart point, with the pending one.
    last: Option<u64>,
    /// Size of the compressed state before that point; 0 without one. It does not depend on which
    /// states have been stored in the meantime.
    before: u32,
    /// A buffer for the next state.
    state: Vec<u8>,
    /// Content after the complete frames.
    partial: Vec<u8>,
    filled: usize,
    stored: Vec<u8>,
    ended: bool,
    /// Whether content after the complete frames was dropped.
    dropped: bool,
}

/// A thread that stores the state of a restart point while the pass continues: it returns the state's
/// buffer and the point. There is at most one for a pass.
type Pending = JoinHandle<(Vec<u8>, Result<Option<Point>, Error>)>;

/// The failure of a pass.
struct Failure {
    error: Error,
    /// Length of the content that can still be read.
    readable: u64,
}

impl Foreign {
    pub(super) fn new(source: Arc<dyn ReadAt>, codec: Codec, options: &OpenOptions) -> Self {
        let restarts = Arc::new(Restarts::new(Arc::clone(&source), codec, FRAME, options));
        let keep = options.restart_cache.clone();
        let keep = keep.and_then(|cache| Some((cache, Key::of(&*source, codec)?)));
        let kept = keep
            .as_ref()
            .and_then(|(cache, key)| cache.load(key, FRAME, options.memory));
        let mut table = FrameTable::new(FRAME);
        let (whole, looks_cut) = (OnceLock::new(), OnceLock::new());
        let ended = kept.is_some();
        if let Some(kept) = kept {
            table = kept.table;
            whole.get_or_init(|| table.content_len());
            looks_cut.get_or_init(|| kept.looks_cut);
            restarts.load(kept.points, kept.file);
        }
        Self {
            source,
            codec,
            max_window: options.max_window(),
            spool_dir: options.spool_dir.clone(),
            unproven: options.unproven,
            done: RwLock::new(Done { table, spool: None }),
            restarts,
            parallel: AtomicBool::new(options.threads.get() > 1),
            keep,
            pass: Mutex::new(State {
                pass: None,
                engine: None,
                history: VecDeque::new(),
                unstored: None,
                pending: None,
                last: None,
                before: 0,
                state: Vec::new(),
                partial: Vec::new(),
                filled: 0,
                stored: Vec::new(),
                ended,
                dropped: false,
            }),
            whole,
            trailing: OnceLock::new(),
            looks_cut,
            failure: OnceLock::new(),
            reader: FrameReader::new(SPOOL, FRAME, options.cache() / 4, options.threads.get()),
        }
    }

    /// The content's length, if the pass or [`Self::decode`] has reached the end.
    pub(super) fn known_len(&self) -> Option<u64> {
        self.whole.get().copied()
    }

    /// Bytes after the stream, if a pass found any.
    pub(super) fn trailing(&self) -> Option<&Error> {
        self.trailing.get()
    }

    /// The error of the pass, if it has failed so far.
    pub(super) fn failed(&self) -> Option<&Error> {
        self.failure.get().map(|failure| &failure.error)
    }

    /// Whether the stream looks like one that was truncated after a frame; `false` until a pass has
    /// reached its end.
    pub(super) fn looks_cut(&self) -> bool {
        self.looks_cut.get() == Some(&true)
    }

    fn note_end(&self, pass: &Pass) {
        self.looks_cut.get_or_init(|| pass.looks_cut());
        if let Some(error) = pass.trailing() {
            self.trailing.get_or_init(|| error.again());
        }
    }

    fn new_pass(&self) -> Result<Pass, Error> {
        Pass::new(Arc::clone(&self.source), self.codec, self.max_window)
            .ok_or_else(|| Error::Options("an uncompressed stream cannot be decoded".into()))
    }

    fn complete(&self) -> u64 {
        let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
        done.table.content_len()
    }

    /// Decodes a little further. Returns `false` at the end or after a failure.
    /// Decoded frames that do not fit in the cache replace others in it only if `evict`.
    fn advance(&self, state: &mut State, evict: bool) -> Result<bool, Error> {
        if state.dropped {
            return Err(Error::Options(
                "the stream was checked to its end and its rest was dropped: open it again".into(),
            ));
        }
        if state.ended {
            return Ok(false);
        }
        if state.filled == FRAME as usize {
            self.complete_frame(state, evict)?;
        }
        self.decode_some(state)
    }

    /// Decodes a little further into the partial frame, which must not be full.
    fn decode_some(&self, state: &mut State) -> Result<bool, Error> {
        if state.pass.is_none() {
            let mut pass = self.new_pass()?;
            pass.track();
            state.pass = Some(pass);
        }
        let Some(pass) = &mut state.pass else {
            return Ok(false);
        };
        state.partial.resize(FRAME as usize, 0);
        match pass.read(&mut state.partial[state.filled..]) {
            Ok(0) => self.end(state)?,
            Ok(n) => {
                state.filled += n;
                let (last, before) = (state.last, state.before);
                let place = pass.place();
                let place = place.filter(|p| self.restarts.wants(p, last, before));
                let unstored = state.unstored.as_ref();
                if unstored.is_some_and(|last| last.is_complete(pass.made())) {
                    self.release(state)?;
                }
                if let Some(place) = place.filter(|_| !state.dropped) {
                    self.restart(state, place)?;
                }
            }
            // A system error may be temporary: the pass can continue.
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(error) => {
                let (error, sound) = self.exact(error, pass.sound());
                let readable = match self.unproven {
                    true => u64::MAX,
                    false => sound,
                };
                self.failure.get_or_init(|| Failure { error, readable });
                state.ended = true;
                state.pass = None;
                self.settle(state)?;
            }
        }
        Ok(!state.ended)
    }

    /// Ends the pass at the end of the stream.
    fn end(&self, state: &mut State) -> Result<(), Error> {
        if state.filled > 0 && !state.dropped {
            self.complete_frame(state, true)?;
        }
        self.settle(state)?;
        self.restarts.stored_all();
        state.state = Vec::new();
        let Some(pass) = state.pass.take() else {
            return Ok(());
        };
        self.note_end(&pass);
        self.whole.get_or_init(|| pass.made());
        state.ended = true;
        state.history.clear();
        let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((cache, key)) = &self.keep
            && done.spool.is_none()
            && !state.dropped
            && self.trailing.get().is_none()
            && done.table.content_len() >= cache.min_content
        {
            // Without space, the restart points are used in this run only.
            let points = self.restarts.points();
            let _ = cache.keep(
                key,
                self.restarts.file(),
                &points,
                &done.table,
                self.looks_cut(),
            );
        }
        Ok(())
    }

    /// The error and length of sound content of a stream that does not decode. The decoder of gzip that
    /// finds restart points does not say why, so another one decodes the stream again.
    fn exact(&self, error: Error, sound: u64) -> (Error, u64) {
        match &error {
            Error::Broken { found, .. } if found == deflate::DAMAGED => {}
            _ => return (error, sound),
        }
        let Ok(mut pass) = self.new_pass() else {
            return (error, sound);
        };
        let mut piece = vec![0; PIECE];
        loop {
            match pass.read(&mut piece) {
                Ok(0) => return (error, sound),
                Ok(_) => {}
                Err(exact) => return (exact, pass.sound()),
            }
        }
    }

    /// Makes a restart point after the content that was decoded last.
    fn restart(&self, state: &mut State, place: StreamPosition) -> Result<(), Error> {
        self.settle(state)?;
        let before = self.restarts.last().map_or(0, |point| point.len);
        let Some(window) = place.window else {
            self.restarts.add(Point {
                place,
                at: 0,
                len: 0,
                check: 0,
            });
            (state.last, state.before) = (Some(place.content), before);
            return Ok(());
        };
        // At most WINDOW_MAX.
        let older = (window as usize).saturating_sub(state.filled);
        let kept: usize = state.history.iter().map(|frame| frame.len()).sum();
        let Some(mut skip) = kept.checked_sub(older) else {
            return Ok(());
        };
        let mut pieces = Vec::with_capacity(state.history.len() + 1);
        for frame in &state.history {
            let skipped = skip.min(frame.len());
            skip -= skipped;
            pieces.push(&frame[skipped..]);
        }
        let newer = state.filled.saturating_sub(window as usize);
        pieces.push(&state.partial[newer..state.filled]);
        let mut decoder = std::mem::take(&mut state.state);
        decoder.clear();
        let found = state.pass.as_ref();
        if found.and_then(|p| p.state(&pieces, &mut decoder)).is_none() {
            state.state = decoder;
            return Ok(());
        }
        let file = self.restarts.states(|| {
            let kept = self.keep.as_ref().map(|(cache, _)| cache.unlinked());
            match kept {
                Some(Ok(file)) => Ok(file),
                _ => spool(self.spool_dir.as_deref()),
            }
        });
        let Some(file) = file else {
            state.state = decoder;
            return Ok(());
        };
        (state.last, state.before) = (Some(place.content), before);
        if let Some(pass) = &mut state.pass {
            pass.follow();
        }
        state.unstored = Some(Unstored::new(place, decoder, file));
        Ok(())
    }

    /// Stores the state of the last restart point.
    fn release(&self, state: &mut State) -> Result<(), Error> {
        let Some(last) = state.unstored.take() else {
            return Ok(());
        };
        let followed = state.pass.as_mut().and_then(Pass::followed);
        if !self.parallel.load(Ordering::Relaxed) {
            let (decoder, point) = last.store(&self.restarts, followed);
            return self.stored(state, decoder, point);
        }
        let restarts = Arc::clone(&self.restarts);
        let thread = std::thread::Builder::new().name("restart".into());
        state.pending = thread.spawn(move || last.store(&restarts, followed)).ok();
        if state.pending.is_none() {
            // This thread stores the next state, and all others.
            self.parallel.store(false, Ordering::Relaxed);
            state.last = self.restarts.last().map(|point| point.place.content);
        }
        Ok(())
    }

    /// Stores the state of the last restart point, and waits until it is stored.
    fn settle(&self, state: &mut State) -> Result<(), Error> {
        self.release(state)?;
        let Some(pending) = state.pending.take() else {
            return Ok(());
        };
        match pending.join() {
            Ok((decoder, point)) => self.stored(state, decoder, point),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Adds a restart point whose state was stored.
    fn stored(
        &self,
        state: &mut State,
        decoder: Vec<u8>,
        point: Result<Option<Point>, Error>,
    ) -> Result<(), Error> {
        state.state = decoder;
        match point? {
            Some(point) => self.restarts.add(point),
            None => state.last = self.restarts.last().map(|point| point.place.content),
        }
        Ok(())
    }

    /// Adds the decoded content as a frame. Stores it in the spool if no restart point is near.
    fn complete_frame(&self, state: &mut State, evict: bool) -> Result<(), Error> {
        let mut done = self.done.write().unwrap_or_else(PoisonError::into_inner);
        let len = state.filled as u32;
        let end = done.table.content_len() + u64::from(len);
        let added = if reaches(state.last, end) {
            entry(xxh64(&state.partial[..state.filled], 0))
        } else {
            drop(done);
            let added = self.store(state)?;
            done = self.done.write().unwrap_or_else(PoisonError::into_inner);
            added
        };
        let number = done.table.count();
        done.table.push(len, added).ok_or_else(too_long)?;
        drop(done);
        let mut content = std::mem::take(&mut state.partial);
        content.truncate(state.filled);
        state.filled = 0;
        let content = Arc::new(content);
        if added.stored_len == 0 {
            let shared = Arc::clone(&content);
            state.partial = self.restarts.offer(number, shared, evict);
        }
        state.history.push_back(content);
        if state.history.len() as u64 > WINDOW_MAX.div_ceil(FRAME.into())
            && let Some(oldest) = state.history.pop_front()
            && state.partial.capacity() == 0
        {
            // A frame that is not in the cache: use its memory again.
            state.partial = Arc::try_unwrap(oldest).unwrap_or_default();
        }
        Ok(())
    }

    /// Stores the decoded content in the spool.
    fn store(&self, state: &mut State) -> Result<Entry, Error> {
        let engine = match &mut state.engine {
            Some(engine) => engine,
            none => none.insert(FrameEncoder::new(
                &Encoding::new(Codec::Zstd).level(1).frame_size(FRAME),
            )?),
        };
        let entry = engine.encode(&state.partial[..state.filled], &mut state.stored)?;
        let mut done = self.done.write().unwrap_or_else(PoisonError::into_inner);
        if done.spool.is_none() {
            let file = spool(self.spool_dir.as_deref()).map_err(Error::Write)?;
            done.spool = Some(Arc::new(file));
        }
        if let Some(spool) = &done.spool {
            // After a failed write the frame is written again at the same offset.
            spool
                .write_all_at(&state.stored, done.table.stored_len())
                .map_err(Error::Write)?;
        }
        Ok(entry)
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        loop {
            if let Some(n) = self.read_decoded(buf, offset)? {
                return Ok(n);
            }
            let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let spooled = self.complete();
                let Some(inside) = offset.checked_sub(spooled) else {
                    break;
                };
                // Before the first read, decode as much as fits without a spool.
                if !state.ended && (state.dropped || state.filled < FRAME as usize) {
                    self.advance(&mut state, true)?;
                    continue;
                }
                let most = self.may_read(buf.len(), offset)?;
                if inside < state.filled as u64 {
                    let from = inside as usize;
                    let n = most.min(state.filled - from);
                    buf[..n].copy_from_slice(&state.partial[from..from + n]);
                    return Ok(n);
                }
                if !self.advance(&mut state, true)? {
                    if let Some(error) = self.failed() {
                        return Err(error.again());
                    }
                    let end = spooled + state.filled as u64;
                    if offset >= end {
                        return Ok(0);
                    }
                }
            }
        }
    }

    /// How many of `len` bytes at `offset` can be read, by the state of the pass.
    fn may_read(&self, len: usize, offset: u64) -> Result<usize, Error> {
        match self.failure.get() {
            Some(failure) if offset >= failure.readable => Err(failure.error.again()),
            Some(failure) => {
                let left = usize::try_from(failure.readable - offset).unwrap_or(usize::MAX);
                Ok(len.min(left))
            }
            None => Ok(len),
        }
    }

    fn read_decoded(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>, Error> {
        let most = self.may_read(buf.len(), offset)?;
        self.read_complete(&mut buf[..most], offset)
    }

    fn read_complete(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>, Error> {
        let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
        let Some(frame) = done.table.find(offset) else {
            return Ok(None);
        };
        let spool = done.spool.clone().filter(|_| frame.entry.stored_len > 0);
        drop(done);
        let find = |number| {
            let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
            done.table.get(number)
        };
        let read = match spool {
            Some(spool) => self.reader.read(&*spool, &frame, &find, buf, offset),
            None => self.restarts.read(&frame, &find, buf, offset),
        };
        read.map(Some)
    }

    /// Decodes to the end. Returns the length of the readable content, and the error after it.
    pub(super) fn readable(&self) -> Result<(u64, Option<Error>), Error> {
        let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(len) = self.whole.get()
            && !state.dropped
        {
            return Ok((*len, None));
        }
        while self.advance(&mut state, false)? {}
        let len = self.complete() + state.filled as u64;
        Ok(match self.failure.get() {
            Some(failure) => (len.min(failure.readable), Some(failure.error.again())),
            None => (len, None),
        })
    }

    /// If a pass has begun, continues it to the end without writing to the spool. Fails if the stream
    /// is damaged.
    pub(super) fn finish(&self, progress: &dyn Progress) -> Result<(), Error> {
        let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = state.pass.is_some() && self.whole.get().is_none();
        while begun && !state.ended {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if state.filled == FRAME as usize {
                let end = self.complete() + u64::from(FRAME);
                if state.dropped || !reaches(state.last, end) {
                    state.dropped = true;
                    state.filled = 0;
                } else {
                    self.complete_frame(&mut state, false)?;
                }
            }
            self.decode_some(&mut state)?;
        }
        if state.dropped {
            state.filled = 0;
        }
        match self.failed() {
            Some(error) => Err(error.again()),
            None => Ok(()),
        }
    }

    /// Decodes the whole stream again, without the spool, in parallel with `sink`. The length is then
    /// known.
    pub(super) fn decode(
        &self,
        sink: &mut Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let mut len = 0;
        pipeline::run(self, NonZeroUsize::MIN, progress, &mut |_,
                                                               bytes,
                                                               (
            stored,
            failed,
        )| {
            if !bytes.is_empty() {
                sink(len, bytes)?;
            }
            len += bytes.len() as u64;
            progress.advance(bytes.len() as u64, stored);
            match failed {
                Some(error) => Err(error),
                None => Ok(()),
            }
        })?;
        Ok(*self.whole.get_or_init(|| len))
    }
}

/// Whether content that ends at `end` is near enough to the last restart point.
fn reaches(last: Option<u64>, end: u64) -> bool {
    last.is_some_and(|last| end - last <= SEGMENT_MAX)
}

/// A worker's pass over the stream.
pub(super) struct Ahead {
    pass: Pass,
    ended: bool,
}

impl Job for Foreign {
    type Worker = Ahead;
    /// Number of stored bytes consumed, and the error after the piece.
    type Note = (u64, Option<Error>);

    fn worker(&self) -> Result<Ahead, Error> {
        Ok(Ahead {
            pass: self.new_pass()?,
            ended: false,
        })
    }

    fn claim(&self, ahead: &mut Ahead, _: u64) -> Result<bool, Error> {
        Ok(!ahead.ended)
    }

    fn work(&self, ahead: &mut Ahead, _: u64, out: &mut Vec<u8>) -> Result<Self::Note, Error> {
        let before = ahead.pass.position();
        out.resize(PIECE, 0);
        let mut len = 0;
        let mut failed = None;
        while len < PIECE && !ahead.ended {
            match ahead.pass.read(&mut out[len..]) {
                Ok(0) => {
                    self.note_end(&ahead.pass);
                    ahead.ended = true;
                }
                Ok(n) => len += n,
                Err(error) => {
                    failed = Some(error);
                    ahead.ended = true;
                }
            }
        }
        out.truncate(len);
        Ok((ahead.pass.position().saturating_sub(before), failed))
    }
}

impl ReadAt for Foreign {
    fn size(&self) -> io::Result<u64> {
        if let Some(len) = self.whole.get() {
            return Ok(*len);
        }
        match self.readable()? {
            (_, Some(error)) => Err(error.into()),
            (len, None) => Ok(len),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.read(buf, offset).map_err(io::Error::from)
    }
}
