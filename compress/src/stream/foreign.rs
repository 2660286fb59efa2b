//! Content of a stream that can only be decoded from its front.
//!
//! One pass goes over the stream, as far as somebody has asked. What it has decoded is stored
//! again in frames of [`SPOOL_FRAME`] bytes, zstd level 1, in a file without a name, and read from
//! there. So memory is bounded, a page near the front costs little, and after one pass every page
//! costs a frame. A stream that fits a frame of the spool is decoded to its end before any of it is
//! read.
//!
//! The one checksum of such a stream is at its end. So what is read before the pass has come there
//! has not been checked yet: a caller that has used it finishes the pass, to know.
//!
//! When the pass fails, the frames of the stream that ended as they should can be read, and what
//! comes before a cut. All of a damaged frame, what is behind it, and the length are the error: the
//! decoder may have noticed the damage long after the first wrong byte. Only salvage reads what
//! decodes of such a frame.

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

/// Content of a frame in the spool.
const SPOOL_FRAME: u32 = 1 << 20;
/// Content that is handed to a sink at once.
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
    /// Whether what decodes of a damaged frame is content.
    unproven: bool,
    /// Frames in the spool, and the spool itself once there is one.
    done: RwLock<Done>,
    pass: Mutex<State>,
    /// The content's length, once something has been over all of it.
    whole: OnceLock<u64>,
    /// What follows the stream, if a pass has come upon it.
    trailing: OnceLock<Error>,
    /// How the pass has failed.
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
    /// Content behind what is in the spool.
    partial: Vec<u8>,
    filled: usize,
    stored: Vec<u8>,
    ended: bool,
    /// Whether content behind the spool has been let go.
    let_go: bool,
}

/// What a pass has come upon that is not what it should be.
struct Failure {
    error: Error,
    /// Content from the front that can be read all the same.
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
                let_go: false,
            }),
            whole: OnceLock::new(),
            trailing: OnceLock::new(),
            failure: OnceLock::new(),
            reader: FrameReader::new(SPOOL, SPOOL_FRAME, options.cache(), options.threads.get()),
        }
    }

    /// The content's length, if the pass or [`Self::decode`] has been over all of it.
    pub(super) fn known_len(&self) -> Option<u64> {
        self.whole.get().copied()
    }

    /// What follows the stream, if a pass has come upon it.
    pub(super) fn trailing(&self) -> Option<&Error> {
        self.trailing.get()
    }

    /// What the pass has failed with, as far as it has come.
    pub(super) fn failed(&self) -> Option<&Error> {
        self.failure.get().map(|failure| &failure.error)
    }

    fn note_trailing(&self, pass: &Pass) {
        if let Some(error) = pass.trailing() {
            self.trailing.get_or_init(|| error.again());
        }
    }

    fn new_pass(&self) -> Result<Pass, Error> {
        Pass::new(Arc::clone(&self.source), self.codec, self.max_window)
            .ok_or_else(|| Error::Options("an uncompressed stream has nothing to decode".into()))
    }

    fn spooled(&self) -> u64 {
        let done = self.done.read().unwrap_or_else(PoisonError::into_inner);
        done.table.content_len()
    }

    /// Decodes a little further. `false` at the end, whatever it is.
    fn advance(&self, state: &mut State) -> Result<bool, Error> {
        if state.let_go {
            return Err(Error::Options(
                "the pass over a stream has been finished; no more of it can be read".into(),
            ));
        }
        if state.ended {
            return Ok(false);
        }
        if state.filled == SPOOL_FRAME as usize {
            self.spool(state)?;
        }
        self.go_on(state)
    }

    /// Decodes a little further into the partial frame, which has room.
    fn go_on(&self, state: &mut State) -> Result<bool, Error> {
        if state.pass.is_none() {
            state.pass = Some(self.new_pass()?);
            state.partial = vec![0; SPOOL_FRAME as usize];
        }
        let Some(pass) = &mut state.pass else {
            return Ok(false);
        };
        match pass.read(&mut state.partial[state.filled..]) {
            Ok(0) => {
                self.note_trailing(pass);
                state.ended = true;
                state.pass = None;
                if !state.let_go {
                    self.whole
                        .get_or_init(|| self.spooled() + state.filled as u64);
                }
            }
            Ok(n) => state.filled += n,
            // The system may say yes next time; nothing has been lost.
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
            let file = match &self.spool_dir {
                Some(dir) => tempfile::tempfile_in(dir),
                None => tempfile::tempfile(),
            };
            done.spool = Some(Arc::new(file.map_err(Error::Write)?));
        }
        if let Some(spool) = &done.spool {
            // A write that failed half-way is done again at the same offset.
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
                // All that may be decoded without a spool is, before any of it is read.
                if !state.ended && (state.let_go || state.filled < SPOOL_FRAME as usize) {
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

    /// How many of `len` bytes at `offset` the pass, as far as it has come, lets a reader have.
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

    /// How much content there is, after a pass over all of it, and what it ended at.
    pub(super) fn readable(&self) -> Result<(u64, Option<Error>), Error> {
        if let Some(len) = self.whole.get() {
            return Ok((*len, None));
        }
        let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        while self.advance(&mut state)? {}
        let len = self.spooled() + state.filled as u64;
        Ok(match self.failure.get() {
            Some(failure) => (len.min(failure.readable), Some(failure.error.again())),
            None => (len, None),
        })
    }

    /// Goes on with the pass to its end and keeps nothing of what it decodes, if there is a pass
    /// that has not ended. What it ends at, if that is not the end of the stream.
    pub(super) fn finish(&self, progress: &dyn Progress) -> Result<(), Error> {
        let mut state = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = state.pass.is_some() && self.whole.get().is_none();
        while begun && !state.ended {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if state.filled == SPOOL_FRAME as usize {
                state.let_go = true;
                state.filled = 0;
            }
            self.go_on(&mut state)?;
        }
        if state.let_go {
            state.filled = 0;
        }
        match self.failed() {
            Some(error) => Err(error.again()),
            None => Ok(()),
        }
    }

    /// Decodes all of the stream once more, without the spool, while `sink` works. What the length
    /// is, is known from then on without a pass.
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

/// One worker's pass over the stream.
pub(super) struct Ahead {
    pass: Pass,
    ended: bool,
}

impl Job for Foreign {
    type Worker = Ahead;
    /// Stored bytes used up, and what came after the piece if that was an error.
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
                    self.note_trailing(&ahead.pass);
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
