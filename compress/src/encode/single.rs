//! The encoder for [`Shape::Single`](crate::Shape::Single): one gzip member or one zstd frame, in
//! parallel.
//!
//! **gzip.** Workers deflate the content of one frame each, without the history before it, and end
//! it with an empty stored block at a byte boundary (a sync flush in zlib). The pieces can then be
//! concatenated. A last, empty block ends the stream; the CRC-32 is combined from those of the
//! pieces. Each frame loses about 32 KiB of history.
//!
//! **zstd.** The library's workers divide the content into jobs, use the end of the previous job as
//! history, and join the blocks. The job size is fixed, so that the output does not depend on the
//! number of workers. There is always at least one worker, because without workers the library
//! produces other bytes. The calling thread reads the content.

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::encoding::Encoding;
use super::frame::refused;
use super::repeat::Repeats;
use super::source::{Claimed, Source, Worker};
use super::stored::Stored;
use crate::gzip_format::{EMPTY_DEFLATE, HEADER_LEN, PLAIN_HEADER, TRAILER_LEN};
use crate::pipeline::{self, Job};
use crate::seal::format::CIPHER_NONE;
use crate::table::too_long;
use crate::{Error, Output, Progress};

/// Content size of a zstd job. The library's minimum is 512 KiB.
const ZSTD_JOB: u32 = 2 << 20;
/// Number of bytes to read at a time.
const ZSTD_PIECE: usize = 1 << 20;

struct Deflate<'a> {
    source: &'a dyn Source,
    encoding: &'a Encoding,
    repeats: Repeats<u32>,
}

impl Job for Deflate<'_> {
    type Worker = Worker<Compress>;
    /// Content length and CRC-32.
    type Note = (usize, u32);

    fn worker(&self) -> Result<Self::Worker, Error> {
        // The level has been checked: 1 to 9.
        let level = Compression::new(self.encoding.effective_level() as u32);
        Ok(Worker::new(Compress::new(level, false)))
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
        let len = zeros.unwrap_or(content.len());
        let crc = self.repeats.encode(zeros, content, out, |content, out| {
            deflate(engine, content, out)?;
            Ok(crc32fast::hash(content))
        })?;
        Ok((len, crc))
    }
}

/// Deflates `content` up to a byte boundary, without a last block.
fn deflate(engine: &mut Compress, content: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    engine.reset();
    out.clear();
    loop {
        // `total_in` counts from the reset, and is at most the input's length.
        let done = engine.total_in() as usize;
        out.reserve((content.len() - done) / 2 + 4096);
        let status = engine
            .compress_vec(&content[done..], out, FlushCompress::Sync)
            .map_err(|e| Error::Options(format!("deflate: {e}")))?;
        // The flush is complete if output space is left.
        let complete = engine.total_in() as usize == content.len() && out.len() < out.capacity();
        if complete || status == Status::StreamEnd {
            return Ok(());
        }
    }
}

pub(super) fn gzip(
    source: &dyn Source,
    encoding: &Encoding,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let job = Deflate {
        source,
        encoding,
        repeats: Repeats::new(encoding.codec),
    };
    let mut sum = crc32fast::Hasher::new();
    let mut content_len = 0_u64;
    let mut stored_len = (HEADER_LEN + EMPTY_DEFLATE.len() + TRAILER_LEN) as u64;
    out.write_all(&PLAIN_HEADER).map_err(Error::Write)?;
    pipeline::run(
        &job,
        encoding.threads,
        progress,
        &mut |_, bytes, (len, crc)| {
            out.write_all(bytes).map_err(Error::Write)?;
            sum.combine(&crc32fast::Hasher::new_with_initial_len(crc, len as u64));
            content_len = content_len.checked_add(len as u64).ok_or_else(too_long)?;
            stored_len += bytes.len() as u64;
            progress.advance(len as u64, bytes.len() as u64);
            Ok(())
        },
    )?;
    let mut end = [0; EMPTY_DEFLATE.len() + TRAILER_LEN];
    end[..2].copy_from_slice(&EMPTY_DEFLATE);
    end[2..6].copy_from_slice(&sum.finalize().to_le_bytes());
    end[6..].copy_from_slice(&(content_len as u32).to_le_bytes());
    out.write_all(&end).map_err(Error::Write)?;
    Ok(Stored {
        content_len,
        stored_len,
        codec: encoding.codec,
        cipher: CIPHER_NONE,
        table: None,
        parts: Vec::new(),
    })
}

pub(super) fn zstd(
    source: &dyn Source,
    encoding: &Encoding,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<Stored, Error> {
    let mut context = CCtx::create();
    let workers = u32::try_from(encoding.threads.get()).unwrap_or(u32::MAX);
    for parameter in [
        CParameter::CompressionLevel(encoding.effective_level()),
        CParameter::ChecksumFlag(true),
        CParameter::ContentSizeFlag(false),
        CParameter::NbWorkers(workers.min(200)),
        CParameter::JobSize(ZSTD_JOB),
    ] {
        context.set_parameter(parameter).map_err(refused)?;
    }
    let mut frame = Vec::new();
    let mut stored = Vec::with_capacity(CCtx::out_size());
    let mut content_len = 0_u64;
    let mut stored_len = 0_u64;
    let mut number = 0;
    loop {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        match source.claim(number, ZSTD_PIECE, &mut frame)? {
            Claimed::End => break,
            Claimed::Here => {}
            Claimed::Later => {
                if let Some(zeros) = source.fetch(number, ZSTD_PIECE, &mut frame)? {
                    frame.clear();
                    frame.resize(zeros, 0);
                }
            }
        }
        number += 1;
        let mut input = InBuffer::around(&frame);
        while input.pos() < frame.len() {
            stored.clear();
            context
                .compress_stream2(
                    &mut OutBuffer::around(&mut stored),
                    &mut input,
                    ZSTD_e_continue,
                )
                .map_err(refused)?;
            out.write_all(&stored).map_err(Error::Write)?;
            stored_len += stored.len() as u64;
            progress.advance(0, stored.len() as u64);
        }
        content_len = content_len
            .checked_add(frame.len() as u64)
            .ok_or_else(too_long)?;
        progress.advance(frame.len() as u64, 0);
    }
    loop {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        stored.clear();
        let left = context
            .compress_stream2(
                &mut OutBuffer::around(&mut stored),
                &mut InBuffer::around(&[]),
                ZSTD_e_end,
            )
            .map_err(refused)?;
        out.write_all(&stored).map_err(Error::Write)?;
        stored_len += stored.len() as u64;
        progress.advance(0, stored.len() as u64);
        if left == 0 {
            break;
        }
    }
    Ok(Stored {
        content_len,
        stored_len,
        codec: encoding.codec,
        cipher: CIPHER_NONE,
        table: None,
        parts: Vec::new(),
    })
}
