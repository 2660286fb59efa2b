//! Where the content of frames comes from: a source at offsets, or one that is read in turns.

use std::io::Read;
use std::sync::Mutex;

use crate::{Error, ReadAt};

/// Where the content of frames comes from.
pub(super) trait Source: Sync {
    /// Fills `frame` with the content of frame `number`, or empties it at the end. Called for
    /// each number in order, never twice at once. A source that would rather read later returns
    /// with [`Claimed::Later`], and [`Self::fetch`] is called with the same number.
    fn claim(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Claimed, Error>;

    /// Fills `frame` with the content of a frame claimed as [`Claimed::Later`], or says how many
    /// zeros are all that it holds.
    fn fetch(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Option<usize>, Error>;
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimed {
    /// There is no such frame: the content has ended.
    End,
    /// The frame has been read.
    Here,
    /// The frame can be fetched at any time, by anybody.
    Later,
}

pub(super) struct At<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) len: u64,
}

impl At<'_> {
    fn part(&self, number: u64, size: usize) -> (u64, usize) {
        // A number whose offset is beyond 64 bits is beyond the end.
        let offset = number.saturating_mul(size as u64);
        let left = self.len.saturating_sub(offset);
        (offset, left.min(size as u64) as usize)
    }
}

impl Source for At<'_> {
    fn claim(&self, number: u64, size: usize, _: &mut Vec<u8>) -> Result<Claimed, Error> {
        let (_, len) = self.part(number, size);
        Ok(if len == 0 {
            Claimed::End
        } else {
            Claimed::Later
        })
    }

    fn fetch(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        let (offset, len) = self.part(number, size);
        if self.source.known_zero(offset, len as u64) {
            return Ok(Some(len));
        }
        frame.resize(len, 0);
        self.source
            .read_exact_at(frame, offset)
            .map_err(Error::Read)?;
        Ok(None)
    }
}

pub(super) struct Turn<'a>(pub(super) Mutex<&'a mut (dyn Read + Send)>);

impl Source for Turn<'_> {
    fn claim(&self, _: u64, size: usize, frame: &mut Vec<u8>) -> Result<Claimed, Error> {
        // A panic of the source ends the pipeline; nobody reads after it.
        let mut source = self.0.lock().unwrap_or_else(|e| e.into_inner());
        frame.resize(size, 0);
        let mut len = 0;
        while len < size {
            match source.read(&mut frame[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Read(e)),
            }
        }
        frame.truncate(len);
        Ok(if len == 0 {
            Claimed::End
        } else {
            Claimed::Here
        })
    }

    fn fetch(&self, _: u64, _: usize, _: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        // `claim` never says `Later`.
        Ok(None)
    }
}

/// Content of one frame, or what stands for it.
struct Input {
    frame: Vec<u8>,
    claimed: Claimed,
}

/// What a worker has: its codec and a frame of content.
pub(super) struct Worker<E> {
    input: Input,
    engine: E,
}

impl<E> Worker<E> {
    pub(super) fn new(engine: E) -> Self {
        Self {
            input: Input {
                frame: Vec::new(),
                claimed: Claimed::End,
            },
            engine,
        }
    }

    pub(super) fn claim(
        &mut self,
        source: &dyn Source,
        number: u64,
        size: usize,
    ) -> Result<bool, Error> {
        self.input.claimed = source.claim(number, size, &mut self.input.frame)?;
        Ok(self.input.claimed != Claimed::End)
    }

    /// The content of the frame claimed; `None` for zeros of the length given.
    pub(super) fn content(
        &mut self,
        source: &dyn Source,
        number: u64,
        size: usize,
    ) -> Result<(Option<usize>, &[u8], &mut E), Error> {
        let zeros = match self.input.claimed {
            Claimed::Later => source.fetch(number, size, &mut self.input.frame)?,
            Claimed::Here | Claimed::End => None,
        };
        Ok((zeros, &self.input.frame, &mut self.engine))
    }
}
