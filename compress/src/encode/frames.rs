//! The encoder for [`Shape::Frames`](crate::Shape::Frames): independent frames, in parallel.

use super::encoding::Encoding;
use super::frame::FrameEncoder;
use super::repeat::Repeats;
use super::source::{Source, Worker};
use super::stored::Stored;
use crate::pipeline::{self, Job};
use crate::seal::format::CIPHER_NONE;
use crate::seal::part::Copier;
use crate::table::{self, Entry, FrameTable};
use crate::{Codec, Error, Output, Progress, WriteAt};

/// The job of [`Shape::Frames`].
struct Frames<'a> {
    source: &'a dyn Source,
    encoding: &'a Encoding,
    repeats: Repeats<Entry>,
    /// Where workers write their frames, instead of returning them.
    at: Option<&'a dyn WriteAt>,
}

/// The result of a frame.
struct Note {
    /// Content length.
    len: u32,
    entry: Entry,
    /// The content to copy into the seal.
    copy: Vec<u8>,
}

impl<'a> Frames<'a> {
    fn new(source: &'a dyn Source, encoding: &'a Encoding, at: Option<&'a dyn WriteAt>) -> Self {
        Self {
            source,
            encoding,
            repeats: Repeats::new(encoding.codec),
            at,
        }
    }
}

impl Job for Frames<'_> {
    type Worker = Worker<FrameEncoder>;
    type Note = Note;

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
        if let Some(at) = self.at {
            at.write_at(out, begins).map_err(Error::Write)?;
        }
        Ok(Note { len, entry, copy })
    }
}

pub(super) fn frames(
    source: &dyn Source,
    encoding: &Encoding,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let mut table = FrameTable::new(encoding.frame_size);
    let mut copier = Copier::new(encoding.copy);
    let mut add = |Note { len, entry, copy }: Note| {
        copier.push(&copy)?;
        table.push(len, entry).ok_or_else(table::too_long)?;
        progress.advance(len.into(), entry.stored_len.into());
        Ok(())
    };
    // Only the offsets of uncompressed frames are known before the preceding frames are encoded.
    let at = out.at().filter(|_| encoding.codec == Codec::None);
    let threads = encoding.threads;
    if at.is_some() {
        let job = Frames::new(source, encoding, at);
        pipeline::run(&job, threads, progress, &mut |_, _, note| add(note))?;
        out.skip(table.stored_len());
    } else {
        let job = Frames::new(source, encoding, None);
        pipeline::run(&job, threads, progress, &mut |_, bytes, note| {
            out.write_all(bytes).map_err(Error::Write)?;
            add(note)
        })?;
    }
    Ok(Stored {
        content_len: table.content_len(),
        stored_len: table.stored_len(),
        codec: encoding.codec,
        cipher: CIPHER_NONE,
        table: Some(table),
        parts: copier.finish()?,
    })
}
