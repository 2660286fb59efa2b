//! The encoder for [`Shape::Frames`](crate::Shape::Frames): independent frames, in parallel.

use std::io::Write;

use super::encoding::Encoding;
use super::frame::FrameEncoder;
use super::repeat::Repeats;
use super::source::{Source, Worker};
use super::stored::Stored;
use crate::pipeline::{self, Job};
use crate::seal::part::Copier;
use crate::table::{self, Entry, FrameTable};
use crate::{Error, Progress};

/// The job of [`Shape::Frames`].
struct Frames<'a> {
    source: &'a dyn Source,
    encoding: &'a Encoding,
    repeats: Repeats<Entry>,
}

impl Job for Frames<'_> {
    type Worker = Worker<FrameEncoder>;
    /// Content length, the frame's entry, and the content to copy into the seal.
    type Note = (u32, Entry, Vec<u8>);

    fn worker(&self) -> Result<Self::Worker, Error> {
        Ok(Worker::new(FrameEncoder::new(self.encoding)?))
    }

    fn claim(&self, worker: &mut Self::Worker, number: u64) -> Result<bool, Error> {
        worker.claim(self.source, number, self.encoding.frame_size as usize)
    }

    fn work(
        &self,
        worker: &mut Self::Worker,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self::Note, Error> {
        let size = self.encoding.frame_size as usize;
        let (zeros, content, engine) = worker.content(self.source, number, size)?;
        // At most FRAME_MAX.
        let len = zeros.unwrap_or(content.len()) as u32;
        let begins = number.saturating_mul(size as u64);
        let copied = self.encoding.copy.saturating_sub(begins).min(len.into()) as usize;
        let copy = match zeros {
            Some(_) => vec![0; copied],
            None => content[..copied].to_vec(),
        };
        let entry = self.repeats.encode(zeros, content, out, |content, out| {
            engine.encode(content, out)
        })?;
        Ok((len, entry, copy))
    }
}

pub(super) fn frames(
    source: &dyn Source,
    encoding: &Encoding,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let job = Frames {
        source,
        encoding,
        repeats: Repeats::new(encoding.codec),
    };
    let mut table = FrameTable::new(encoding.frame_size);
    let mut copier = Copier::new(encoding.copy);
    pipeline::run(&job, encoding.threads, progress, &mut |_,
                                                          bytes,
                                                          (
        len,
        entry,
        copy,
    )| {
        copier.push(&copy)?;
        out.write_all(bytes).map_err(Error::Write)?;
        table.push(len, entry).ok_or_else(table::too_long)?;
        progress.advance(len.into(), bytes.len() as u64);
        Ok(())
    })?;
    Ok(Stored {
        content_len: table.content_len(),
        stored_len: table.stored_len(),
        codec: encoding.codec,
        table: Some(table),
        parts: copier.finish()?,
    })
}
