//! Random access to a stream whose frames are known.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::options::{OpenOptions, Sink};
use super::reader::FrameReader;
use crate::decode::frame::{FrameDecoder, Kind};
use crate::pipeline::{self, Job};
use crate::table::{Frame, FrameTable};
use crate::{Error, Progress, ReadAt, WriteAt};

/// A stream and its frames.
pub(super) struct Indexed {
    source: Arc<dyn ReadAt>,
    table: FrameTable,
    /// The error after the last frame, if the content does not end there.
    tail: Option<Error>,
    reader: FrameReader,
}

impl Indexed {
    pub(super) fn new(
        source: Arc<dyn ReadAt>,
        table: FrameTable,
        kind: Kind,
        tail: Option<Error>,
        options: &OpenOptions,
    ) -> Self {
        let threads = options.threads.get();
        Self {
            source,
            tail,
            reader: FrameReader::new(kind, table.largest(), options.cache(), threads),
            table,
        }
    }

    pub(super) fn table(&self) -> &FrameTable {
        &self.table
    }

    /// Content length of the frames, and the error after them.
    pub(super) fn readable(&self) -> (u64, Option<Error>) {
        (
            self.table.content_len(),
            self.tail.as_ref().map(Error::again),
        )
    }

    /// The error after the last frame, if the content is not complete.
    pub(super) fn tail(&self) -> Option<&Error> {
        self.tail.as_ref()
    }

    /// The content's length, if it is complete.
    pub(super) fn known_len(&self) -> Option<u64> {
        self.tail.is_none().then(|| self.table.content_len())
    }

    /// Decodes all frames in parallel and passes them to `sink` in order.
    pub(super) fn decode(
        &self,
        threads: NonZeroUsize,
        sink: &mut Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        pipeline::run(self, threads, progress, &mut |_, bytes, frame: Frame| {
            sink(frame.content_offset, bytes)?;
            progress.advance(bytes.len() as u64, frame.entry.stored_len.into());
            Ok(())
        })?;
        self.decoded()
    }

    /// Decodes all frames in parallel; the worker that decoded a frame writes it to `out`.
    pub(super) fn decode_at(
        &self,
        threads: NonZeroUsize,
        out: &dyn WriteAt,
        progress: &dyn Progress,
    ) -> Result<u64, Error> {
        let job = Writing { indexed: self, out };
        pipeline::run(&job, threads, progress, &mut |_, _, frame: Frame| {
            progress.advance(frame.content_len.into(), frame.entry.stored_len.into());
            Ok(())
        })?;
        self.decoded()
    }

    /// The length of the content after all frames were decoded.
    fn decoded(&self) -> Result<u64, Error> {
        match &self.tail {
            Some(error) => Err(error.again()),
            None => Ok(self.table.content_len()),
        }
    }
}

/// The job that also writes the frames.
struct Writing<'a> {
    indexed: &'a Indexed,
    out: &'a dyn WriteAt,
}

impl Job for Writing<'_> {
    type Worker = FrameDecoder;
    type Note = Frame;

    fn worker(&self) -> Result<FrameDecoder, Error> {
        self.indexed.worker()
    }

    fn claim(&self, decoder: &mut FrameDecoder, number: u64) -> Result<bool, Error> {
        self.indexed.claim(decoder, number)
    }

    fn work(
        &self,
        decoder: &mut FrameDecoder,
        number: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<Frame, Error> {
        let frame = self.indexed.work(decoder, number, bytes)?;
        self.out
            .write_at(bytes, frame.content_offset)
            .map_err(Error::Write)?;
        Ok(frame)
    }
}

impl Job for Indexed {
    type Worker = FrameDecoder;
    type Note = Frame;

    fn worker(&self) -> Result<FrameDecoder, Error> {
        Ok(FrameDecoder::default())
    }

    fn claim(&self, _: &mut FrameDecoder, number: u64) -> Result<bool, Error> {
        Ok(number < self.table.count())
    }

    fn work(
        &self,
        decoder: &mut FrameDecoder,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<Frame, Error> {
        // `claim` accepts only numbers in the table.
        let frame = self.table.get(number).ok_or(Error::Cancelled)?;
        out.resize(frame.content_len as usize, 0);
        decoder.decode(&*self.source, self.reader.kind(), &frame, out)?;
        Ok(frame)
    }
}

impl ReadAt for Indexed {
    fn size(&self) -> io::Result<u64> {
        match &self.tail {
            Some(error) => Err(error.again().into()),
            None => Ok(self.table.content_len()),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(frame) = self.table.find(offset) else {
            return match &self.tail {
                Some(error) => Err(error.again().into()),
                None => Ok(0),
            };
        };
        let find = |number| self.table.get(number);
        self.reader
            .read(&*self.source, &frame, &find, buf, offset)
            .map_err(io::Error::from)
    }
}
