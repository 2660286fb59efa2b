//! Our side of each task, run in a child process.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use livecore_compress::{
    Codec, Encoding, Error, NoProgress, OpenOptions, ReadAt, Shape, Stream, encode_at, write_seal,
};

use livecore_livedump::image;
use livecore_livedump::publish::{self, Destination};
use livecore_livedump::sys::pipe;
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::KernelElf;
use livecore_tests::random::Random;

use crate::{Failure, corpora, limit, pages};

/// Page size in bytes.
const PAGE: usize = 4096;

/// Runs a task: its name and its arguments.
pub(crate) fn work(arguments: &[String]) -> Result<(), Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["encode", codec, level, threads, frame, shape, from, to] => {
            let source = File::open(from)?;
            let encoding = encoding(codec, level, threads, frame)?;
            encode(&source, &encoding, shape, to)
        }
        ["take", codec, level, threads, frame, from, to] => {
            let payload = corpora::taken(Path::new(from))?.into_payload();
            encode(
                &payload,
                &encoding(codec, level, threads, frame)?,
                "sealed",
                to,
            )
        }
        ["guest", codec, level, threads, frame, from, kernel, to] => {
            let kernel = KernelElf::from_bytes(std::fs::read(kernel)?)?;
            let image = image::open(Path::new(from), &image::Options::default())?;
            let taken = plan(image.memory, &kernel, &PlanOptions::default())?;
            encode(
                &taken.into_payload(),
                &encoding(codec, level, threads, frame)?,
                "sealed",
                to,
            )
        }
        ["check", threads, from] => {
            open(threads, from)?.check(&NoProgress)?;
            Ok(())
        }
        ["verify", depth, threads, from] => {
            let options = livecore_verify::Options::default()
                .depth(match *depth {
                    "deep" => livecore_verify::Depth::Deep,
                    _ => livecore_verify::Depth::Default,
                })
                .threads(threads.parse()?);
            let report =
                livecore_verify::verify(Arc::new(File::open(from)?), &options, &NoProgress);
            match report.verdict.reason() {
                Some(why) => Err(why.into()),
                // The missing header in the seals of these files is only a finding.
                None => Ok(()),
            }
        }
        ["decode", threads, from, "-"] => {
            let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            pipe::widen(&out);
            open(threads, from)?.decode(
                &mut |_, piece| out.write_all(piece).map_err(Error::Write),
                &NoProgress,
            )?;
            Ok(())
        }
        ["decode", threads, from, to] => {
            let options = publish::Options::default().sparse(true);
            let mut out = Destination::File(to.into()).begin(&options)?;
            open(threads, from)?.decode_to(&mut out, &NoProgress)?;
            out.publish(&|_| Vec::new())?;
            Ok(())
        }
        ["limit", codec, level, threads, frame, runs, from] => {
            let encoding = encoding(codec, level, threads, frame)?;
            limit::limit(&encoding, runs.parse()?, from)
        }
        ["random", from] => random(from),
        ["pages", from] => pages::pages(from),
        _ => Err(format!("unknown task: {arguments:?}").into()),
    }
}

fn encoding(codec: &str, level: &str, threads: &str, frame: &str) -> Result<Encoding, Failure> {
    let codec = [Codec::None, Codec::Gzip, Codec::Zstd]
        .into_iter()
        .find(|c| c.name() == codec)
        .ok_or("unknown codec")?;
    Ok(Encoding::new(codec)
        .level(level.parse::<i32>()?)
        .frame_size(frame.parse()?)
        .threads(threads.parse()?))
}

fn encode(source: &dyn ReadAt, encoding: &Encoding, shape: &str, to: &str) -> Result<(), Failure> {
    let mut out = File::create(to)?;
    if shape == "single" {
        encode_at(source, encoding, Shape::Single, &mut out, &NoProgress)?;
        return Ok(());
    }
    let stored = encode_at(source, encoding, Shape::Frames, &mut out, &NoProgress)?;
    write_seal(&stored, &[7; 600], &mut out)?;
    Ok(())
}

fn open(threads: &str, from: &str) -> Result<Stream, Failure> {
    let options = OpenOptions::new().threads(threads.parse::<NonZeroUsize>()?);
    Ok(Stream::open(from, &options)?)
}

/// Reads random pages, cold and cached, and prints the time per page.
fn random(from: &str) -> Result<(), Failure> {
    let start = Instant::now();
    let stream = open("1", from)?;
    let opened = start.elapsed();
    let content = stream.content();
    let frames = stream.frames().ok_or("no frames")?;
    let (count, size) = (frames.count(), u64::from(frames.frame_size()));
    let mut page = [0; PAGE];
    let mut random = Random::new(1);
    let mut next = |limit: u64| random.below(limit);
    let rounds = 200;
    let start = Instant::now();
    for _ in 0..rounds {
        let at = next(count - 1) * size + next(size / PAGE as u64) * PAGE as u64;
        content.read_exact_at(&mut page, at)?;
    }
    let cold = start.elapsed() / rounds;
    // Two adjacent frames, which fit in the cache.
    content.read_exact_at(&mut page, 0)?;
    content.read_exact_at(&mut page, size)?;
    let rounds = 100_000;
    let start = Instant::now();
    for _ in 0..rounds {
        content.read_exact_at(&mut page, next(2 * size / PAGE as u64) * PAGE as u64)?;
    }
    let cached = start.elapsed() / rounds;
    writeln!(
        std::io::stdout(),
        "open {opened:?}, 4 KiB cold {cold:?}, cached {cached:?}, frame of {size} bytes"
    )?;
    Ok(())
}
