//! In-process fuzz targets: randomly changed streams, and properties of all streams.
//!
//! Each target changes intact streams of its kind: bits, bytes, ranges removed, duplicated, or taken
//! from another stream. A small fixed sample runs with the other tests. `LIVECORE_FUZZ_SECONDS` sets
//! the time of each target, `LIVECORE_FUZZ_SEED` the seed. Every failure prints seed and round.
//!
//! The properties: no panic, no piece larger than the maximum frame, reads at an offset agree with
//! sequential decoding, and content that passed a check is what decoding returns.

use crate::common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use livecore_compress::*;
use livecore_tests::random::Random;

/// Number of rounds of the fixed sample.
const ROUNDS: u64 = 250;
/// Maximum content of one stream: a frame of the format's largest size.
const PIECE_MAX: usize = 64 << 20;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {value} is no number")),
    )
}

/// Changes `seeds` repeatedly and checks the properties.
fn fuzz(target: &str, seeds: &[Vec<u8>]) {
    let seed = number("LIVECORE_FUZZ_SEED").unwrap_or(0x5eed) | 1;
    let seconds = number("LIVECORE_FUZZ_SECONDS").map(Duration::from_secs);
    let mut numbers = Random::new(seed);
    let start = Instant::now();
    for round in 0.. {
        match seconds {
            Some(seconds) if start.elapsed() >= seconds => break,
            None if round >= ROUNDS => break,
            _ => {}
        }
        let bytes = changed(seeds, &mut numbers);
        let what = format!("{target}, seed {seed:#x}, round {round}");
        laws(bytes, &mut numbers, &what);
    }
}

fn changed(seeds: &[Vec<u8>], numbers: &mut Random) -> Vec<u8> {
    let pick = |numbers: &mut Random| &seeds[numbers.below(seeds.len() as u64) as usize];
    let mut bytes = pick(numbers).clone();
    for _ in 0..=numbers.below(4) {
        let len = bytes.len() as u64;
        if len < 2 {
            break;
        }
        // Prefer both ends, where the structure is.
        let at = match numbers.below(4) {
            0 => numbers.below(len.min(64)),
            1 => len - 1 - numbers.below(len.min(400)),
            _ => numbers.below(len),
        } as usize;
        let run = (numbers.below(80) as usize).min(bytes.len() - at);
        match numbers.below(7) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = numbers.next() as u8,
            2 => bytes[at..at + run.min(8)].fill(if numbers.below(2) == 0 { 0 } else { 0xff }),
            3 => drop(bytes.drain(at..at + run)),
            4 => {
                let copy = bytes[at..at + run].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = pick(numbers);
                let from = numbers.below(other.len() as u64) as usize;
                let piece = &other[from..other.len().min(from + run)];
                bytes.splice(at..at + run.min(piece.len()), piece.iter().copied());
            }
            _ => bytes.truncate(at + 1),
        }
    }
    bytes
}

fn laws(bytes: Vec<u8>, numbers: &mut Random, what: &str) {
    let options = OpenOptions::new()
        .threads(threads(1 + numbers.below(2) as usize))
        .memory(16 << numbers.below(24));
    let Ok(stream) = Stream::from_source(Arc::new(bytes), &options) else {
        return;
    };
    let mut content = Vec::new();
    let end = stream.decode(
        &mut |at, piece| {
            assert_eq!(at, content.len() as u64, "{what}");
            assert!(piece.len() <= PIECE_MAX, "{what}");
            content.extend_from_slice(piece);
            Ok(())
        },
        &NoProgress,
    );
    if let Ok(len) = end {
        assert_eq!(len, content.len() as u64, "{what}");
        assert_eq!(stream.content().size().unwrap(), len, "{what}");
    }
    if stream.check(&NoProgress).is_ok() {
        assert!(end.is_ok() && stream.seal_damage().is_none(), "{what}");
    }
    let reader = stream.content();
    for _ in 0..12 {
        let at = numbers.below(content.len() as u64 + 100);
        let mut buf = vec![0; numbers.below(9000) as usize];
        // Frames after a damaged one can be read, but sequential decoding does not reach them.
        let from = (at as usize).min(content.len());
        let to = (from + buf.len()).min(content.len());
        if let Ok(n) = reader.read_full_at(&mut buf, at) {
            let known = n.min(to - from);
            assert!(
                buf[..known] == content[from..from + known],
                "{what}: at {at}"
            );
            assert!(n >= to - from, "{what}: {n} bytes at {at}");
            assert!(end.is_err() || n == to - from, "{what}: {n} bytes at {at}");
        } else {
            assert!(end.is_err(), "{what}: {at}");
        }
    }
}

fn streams(codec: Codec, seal: bool) -> Vec<Vec<u8>> {
    let mut streams = Vec::new();
    for (len, frame) in [(0, 4096), (9000, 4096), (70_000, 16384), (100_000, 1 << 20)] {
        let content = content(len, 61 + len as u64);
        let encoding = encoding(codec, frame, 1);
        if seal {
            streams.push(sealed(&content, &encoding, &content[..len / 100]));
        } else {
            for shape in [Shape::Frames, Shape::Single] {
                streams.push(stored(&content, &encoding, shape).0);
            }
        }
    }
    streams.retain(|s| !s.is_empty());
    streams
}

#[test]
fn index_of_zstd() {
    fuzz("index of zstd", &streams(Codec::Zstd, true));
}

#[test]
fn index_of_gzip() {
    fuzz("index of gzip", &streams(Codec::Gzip, true));
}

#[test]
fn index_of_uncompressed() {
    fuzz("index of uncompressed", &streams(Codec::None, true));
}

#[test]
fn decoder_of_zstd() {
    fuzz("decoder of zstd", &streams(Codec::Zstd, false));
}

#[test]
fn decoder_of_gzip() {
    fuzz("decoder of gzip", &streams(Codec::Gzip, false));
}
