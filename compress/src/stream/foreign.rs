//! Random access to a stream that can be decoded only from its beginning.
//!
//! One pass decodes the stream as far as it was read. The content is stored in the *spool*, an
//! unlinked temporary file, in frames of [`SPOOL_FRAME`] bytes at zstd level 1, and read from there.
//! This bounds memory, makes a read near the beginning fast, and after the pass makes any read cost
//! one frame. A stream that fits in one frame of the spool is decoded to its end before the first
//! read.
//!
//! The checksum of such a stream is at its end, so what is read before the pass ends is not yet
//! checked. A caller that uses it should finish the pass.
//!
//! When the pass fails, complete frames and the content before a truncation can be read. Reads of the
//! damaged frame and of anything after it fail, as does asking for the length: the decoder may find
//! the damage long after the first wrong byte. Only salvage reads what decodes of a damaged frame.

use crate::spool::spool;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::options::{OpenOptions, Sink};
use super::reader::FrameReader;
use crate::decode::Pass;
use crate::decode::frame::Kind;
use crate::encode::FrameEncoder;
use crate::pipeline::{self, Job};
use crate::table::{FrameTable, too_long};
use crate::{Codec, Encoding, Error, Progress, ReadAt};

/// Content size of a frame in the spool.
const SPOOL_FRAME: u32 = 1 << 20;
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
    /// The spool and its frames.
    done: RwLock<Done>,
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
    /// Content after that in the spool.
    partial: Vec<u8>,
    filled: usize,
    stored: Vec<u8>,
    ended: bool,
    /// Whether content after the spool was dropped.
    dropped: bool,
}

/// The failure of a pass.
struct Failure {
    error: Error,
    /// Length of the content that can still be read.
    readable: u64,
}

impl Foreign {
    pub(super) fn new(source: Arc<dyn ReadAt>, codec: Codec, options: &OpenOptions) -> Self {
        Self {
            source,
            codec,
            max_window: options.max_window(),
            spool_dir: options.spool_dir.clone(),
            unproven: options.unproven,
            done: RwLock::new(Done {
                table: FrameTable::new(SPOOL_FRAME),
                spool: None,
            }),
            pass: Mutex::new(State {
                pass: None,
                engine: None,
                partial: Vec::new(),
                filled: 0,
                stored: Vec::new(),
                ended: false,
                dropped: false,
            }),
            whole: OnceLock::new(),
            trailing: OnceLock::new(),
            looks_cut: OnceLock::new(),
            failure: OnceLock::new(),
            reader: FrameReader::new(SPOOL, SPOOL_FRAME, options.cache(), options.threads.get()),
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

    /// Whether the stream looks as one that was cut after a frame; `false` as long as no pass has come
    /// to its end.
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

    fn spooled(&self) -> u64 {
        let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
        done.table.content_len()
    }

    /// Decodes a little further. Returns `false` at the end or after a failure.
    fn advance(&self, state: &mut State) -> Result<bool, Error> {
        if state.dropped {
            return Err(Error::Options(
                "the stream was checked to its end and its rest was dropped: open it again".into(),
            ));
        }
        if state.ended {
            return Ok(false);
        }
        if state.filled == SPOOL_FRAME as usize {
            self.spool(state)?;
        }
        self.decode_some(state)
    }

    /// Decodes a little further into the partial frame, which must not be full.
    fn decode_some(&self, state: &mut State) -> Result<bool, Error> {
        if state.pass.is_none() {
            state.pass = Some(self.new_pass()?);
            state.partial = vec![0; SPOOL_FRAME as usize];
        }
        let Some(pass) = &mut state.pass else {
            return Ok(false);
        };
        match pass.read(&mut state.partial[state.filled..]) {
            Ok(0) => {
                self.note_end(pass);
                self.whole.get_or_init(|| pass.made());
                state.ended = true;
                state.pass = None;
            }
            Ok(n) => state.filled += n,
            // A system error may be temporary: the pass can continue.
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(error) => {
                let readable = match self.unproven {
                    true => u64::MAX,
                    false => pass.sound(),
                };
                self.failure.get_or_init(|| Failure { error, readable });
                state.ended = true;
                state.pass = None;
            }
        }
        Ok(!state.ended)
    }

    /// Moves the full frame to the spool.
    fn spool(&self, state: &mut State) -> Result<(), Error> {
        let engine = match &mut state.engine {
            Some(engine) => engine,
            none => none.insert(FrameEncoder::new(
                &Encoding::new(Codec::Zstd).level(1).frame_size(SPOOL_FRAME),
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
        let len = state.filled as u32;
        done.table.push(len, entry).ok_or_else(too_long)?;
        state.filled = 0;
        Ok(())
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        loop {
            if let Some(n) = self.read_decoded(buf, offset)? {
                return Ok(n);
            }
            let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let spooled = self.spooled();
                let Some(inside) = offset.checked_sub(spooled) else {
                    break;
                };
                // Before the first read, decode as much as fits without a spool.
                if !state.ended && (state.dropped || state.filled < SPOOL_FRAME as usize) {
                    self.advance(&mut state)?;
                    continue;
                }
                let most = self.may_read(buf.len(), offset)?;
                if inside < state.filled as u64 {
                    let from = inside as usize;
                    let n = most.min(state.filled - from);
                    buf[..n].copy_from_slice(&state.partial[from..from + n]);
                    return Ok(n);
                }
                if !self.advance(&mut state)? {
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
        self.read_spooled(&mut buf[..most], offset)
    }

    fn read_spooled(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>, Error> {
        let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
        let (Some(frame), Some(spool)) = (done.table.find(offset), done.spool.clone()) else {
            return Ok(None);
        };
        drop(done);
        let find = |number| {
            let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
            done.table.get(number)
        };
        self.reader
            .read(&*spool, &frame, &find, buf, offset)
            .map(Some)
    }

    /// Decodes to the end. Returns the length of the readable content, and the error after it.
    pub(super) fn readable(&self) -> Result<(u64, Option<Error>), Error> {
        let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(len) = self.whole.get()
            && !state.dropped
        {
            return Ok((*len, None));
        }
        while self.advance(&mut state)? {}
        let len = self.spooled() + state.filled as u64;
        Ok(match self.failure.get() {
            Some(failure) => (len.min(failure.readable), Some(failure.error.again())),
            None => (len, None),
        })
    }

    /// If a pass has begun, continues it to the end without storing the content. Fails if the stream
    /// is damaged.
    pub(super) fn finish(&self, progress: &dyn Progress) -> Result<(), Error> {
        let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = state.pass.is_some() && self.whole.get().is_none();
        while begun && !state.ended {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if state.filled == SPOOL_FRAME as usize {
                state.dropped = true;
                state.filled = 0;
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
