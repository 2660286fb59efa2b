//! The source of frame content: random access, or sequential.

use std::io::Read;
use std::sync::Mutex;

use crate::{Error, ReadAt};

/// The source of frame content.
pub(super) trait Source: Sync {
    /// Claims frame `number`. A sequential source fills `frame` with its content. Called for each
    /// number in order, without overlap. After [`Claimed::Later`], [`Self::fetch`] is called with the
    /// same number.
    fn claim(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Claimed, Error>;

    /// Fills `frame` with the content of a frame claimed as [`Claimed::Later`], or returns its length
    /// if it is all zeros.
    fn fetch(&self, number: u64, size: usize, frame: &mut Vec<u8>) -> Result<Option<usize>, Error>;
}

/// The result of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimed {
    /// The content has ended.
    End,
    /// The frame was read.
    Here,
    /// The frame can be fetched later, on any thread.
    Later,
}

pub(super) struct At<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) len: u64,
}

impl At<'_> {
    fn part(&self, number: u64, size: usize) -> (u64, usize) {
        // An offset above 64 bits is after the end.
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
        // After a panic the pipeline does not read the source again.
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
        // `claim` never returns `Later`.
        Ok(None)
    }
}

/// The content of a claimed frame.
struct Input {
    frame: Vec<u8>,
    claimed: Claimed,
}

/// The state of a worker: its encoder and a frame of content.
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

    /// The content of the claimed frame, or its length if it is all zeros.
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
