//! The compression libraries alone, as the limit of what `compress` can reach: libzstd or
//! libdeflate processes the same frames, from memory, in as many threads. The output is discarded.
//!
//! Both sides run in one process, alternately, because the content must be in memory before the
//! clock starts.

use std::fs;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use libdeflater::{CompressionLvl, Compressor, Decompressor};
use livecore_compress::{
    Codec, Encoding, Frame, NoProgress, OpenOptions, ReadAt, Shape, Stream, encode_at,
};
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use crate::Failure;
use crate::process::stat;

/// Compresses and decompresses the payload `from` with the library and with `compress`, `runs` times
/// each, and prints medians.
pub(crate) fn limit(encoding: &Encoding, runs: usize, from: &str) -> Result<(), Failure> {
    let content = fs::read(from)?;
    let frames: Vec<&[u8]> = content.chunks(encoding.frame_size as usize).collect();
    let threads = encoding.threads.get();
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(timed(|| {
            encode_at(
                &content,
                encoding,
                Shape::Frames,
                &mut io::sink(),
                &NoProgress,
            )?;
            Ok(())
        })?);
        alone.push(timed(|| {
            in_threads(
                threads,
                frames.len(),
                &|| compressor(encoding),
                &|engine, at, out| compress(engine, frames[at], out),
            )
        })?);
    }
    print("encode", &ours, &alone)?;

    let mut stored = Vec::new();
    let made = encode_at(&content, encoding, Shape::Frames, &mut stored, &NoProgress)?;
    livecore_compress::write_seal(&made, b"", &mut stored)?;
    drop(frames);
    drop(content);
    let stored = Arc::new(stored);
    let options = OpenOptions::new().threads(encoding.threads);
    let source = Arc::clone(&stored) as Arc<dyn ReadAt>;
    let stream = Stream::from_source(source, &options)?;
    let table = stream.frames().ok_or("no frames")?;
    let frames: Vec<Frame> = (0..table.count()).filter_map(|n| table.get(n)).collect();
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(timed(|| Ok(stream.check(&NoProgress).map(drop)?))?);
        alone.push(timed(|| {
            let decoder = || Ok(decompressor(encoding.codec));
            in_threads(threads, frames.len(), &decoder, &|engine, at, out| {
                let frame = &frames[at];
                let end = frame.offset + u64::from(frame.entry.stored_len);
                out.resize(frame.content_len as usize, 0);
                decompress(engine, &stored[frame.offset as usize..end as usize], out)
            })
        })?);
    }
    print("checked decode", &ours, &alone)
}

/// Elapsed and CPU seconds of `work`.
fn timed(work: impl FnOnce() -> Result<(), Failure>) -> Result<(f64, f64), Failure> {
    let (start, cpu) = (Instant::now(), stat(std::process::id())?.1);
    work()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds, stat(std::process::id())?.1 - cpu))
}

fn print(what: &str, ours: &[(f64, f64)], alone: &[(f64, f64)]) -> Result<(), Failure> {
    let median = |runs: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (wall, limit) = (median(ours, |r| r.0), median(alone, |r| r.0));
    let (cpu, limit_cpu) = (median(ours, |r| r.1), median(alone, |r| r.1));
    writeln!(
        io::stdout(),
        "| {what} | {:.2} | {:.2} | {wall:.3} / {limit:.3} | {cpu:.2} / {limit_cpu:.2} |",
        limit / wall,
        limit_cpu / cpu
    )?;
    Ok(())
}

/// Processes a frame, by its number, with an engine and a buffer.
type Work<'a, E> = dyn Fn(&mut E, usize, &mut Vec<u8>) -> Result<(), Failure> + Sync + 'a;

/// Passes the numbers below `count` to `threads` threads; each has its engine and its buffer.
fn in_threads<E>(
    threads: usize,
    count: usize,
    engine: &(dyn Fn() -> Result<E, Failure> + Sync),
    work: &Work<'_, E>,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let run = || -> Result<(), Failure> {
        let (mut engine, mut out) = (engine()?, Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok(());
            }
            work(&mut engine, at, &mut out)?;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = run()
                    && let Ok(mut failed) = failed.lock()
                {
                    *failed = Some(error.to_string());
                }
            });
        }
    });
    match failed.into_inner()? {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

enum Engine {
    Zstd(CCtx<'static>),
    Gzip(Compressor),
}

fn compressor(encoding: &Encoding) -> Result<Engine, Failure> {
    let level = encoding.level.ok_or("no level")?;
    if encoding.codec == Codec::Gzip {
        let level = CompressionLvl::new(level).map_err(|e| format!("{e:?}"))?;
        return Ok(Engine::Gzip(Compressor::new(level)));
    }
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::ChecksumFlag(true),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    Ok(Engine::Zstd(context))
}

fn compress(engine: &mut Engine, content: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
    match engine {
        Engine::Zstd(context) => {
            out.clear();
            out.reserve(zstd::zstd_safe::compress_bound(content.len()));
            context.compress2(out, content).map_err(failed)?;
        }
        Engine::Gzip(engine) => {
            out.resize(engine.gzip_compress_bound(content.len()), 0);
            engine
                .gzip_compress(content, out)
                .map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

enum Decoder {
    Zstd(DCtx<'static>),
    Gzip(Decompressor),
}

fn decompressor(codec: Codec) -> Decoder {
    match codec {
        Codec::Gzip => Decoder::Gzip(Decompressor::new()),
        Codec::Zstd | Codec::None => Decoder::Zstd(DCtx::create()),
    }
}

/// Decompresses a frame and checks its checksum.
fn decompress(decoder: &mut Decoder, stored: &[u8], out: &mut [u8]) -> Result<(), Failure> {
    match decoder {
        Decoder::Zstd(context) => {
            context.decompress(out, stored).map_err(failed)?;
        }
        Decoder::Gzip(engine) => {
            engine
                .gzip_decompress(stored, out)
                .map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

fn failed(code: usize) -> Failure {
    zstd::zstd_safe::get_error_name(code).into()
}
