//! Random single faults in sound dumps: flipped bits, zeroed ranges, cuts, duplicated and swapped
//! blocks.
//!
//! `LIVECORE_FAULTS` is the number of faults (default 2,000) and `LIVECORE_SEED` the seed, which
//! every failure prints. The tests require:
//!
//! * every fault in a sealed dump is reported, except for a cut at the start of the seal, which leaves
//!   a sound saved file;
//! * a fault in a compressed dump without a seal is reported, or does not change the content;
//! * a fault in an uncompressed dump without a seal causes no panic. It may go unreported, since
//!   nothing checks the contents of pages.

use crate::common;

use std::io::Read;
use std::num::NonZeroUsize;

use common::{build, describe, seal, verify};
use livecore_compress::Codec;
use livecore_tests::random::Random;
use livecore_verify::{Depth, Options, Verdict};

/// The offset of a fault: anywhere, or in the first or last bytes, where headers and seals are.
fn fault_offset(random: &mut Random, len: usize) -> usize {
    match random.index(4) {
        0 => random.index(len.min(4096)),
        1 => len - 1 - random.index(len.min(4096)),
        _ => random.index(len),
    }
}

fn fault(random: &mut Random, bytes: &mut Vec<u8>) -> String {
    let len = bytes.len();
    let at = fault_offset(random, len);
    match random.index(6) {
        0 | 1 => {
            let bit = random.index(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at:#x} flipped")
        }
        2 => {
            let run = (1 + random.index(5000)).min(len - at);
            bytes[at..at + run].fill(0);
            format!("{run} bytes at {at:#x} zeroed")
        }
        3 => {
            bytes.truncate(at);
            format!("cut at {at:#x}")
        }
        4 => {
            let run = (1 + random.index(5000)).min(len - at);
            let copy = bytes[at..at + run].to_vec();
            bytes.splice(at..at, copy);
            format!("{run} bytes at {at:#x} duplicated")
        }
        _ => {
            let run = (1 + random.index(5000)).min(len / 2);
            let (a, b) = (
                random.index(len / 2 - run + 1),
                len / 2 + random.index(len / 2 - run + 1),
            );
            let (low, high) = bytes.split_at_mut(b);
            low[a..a + run].swap_with_slice(&mut high[..run]);
            format!("{run} bytes at {a:#x} and {b:#x} swapped")
        }
    }
}

/// The payload of an unsealed dump, decompressed by zstd or zlib.
fn content(kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    match kind {
        "zstd" => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes).ok()?.single_frame();
            decoder.read_to_end(&mut content).ok()?;
        }
        _ => {
            flate2::read::GzDecoder::new(bytes)
                .read_to_end(&mut content)
                .ok()?;
        }
    }
    Some(content)
}

/// Size of the data before the seal.
fn stored_len(dump: &[u8]) -> usize {
    let seal = dump.windows(8).rposition(|w| w == b"LVCRSEAL").unwrap();
    let field = dump[seal + 24..seal + 32].try_into().unwrap();
    usize::try_from(u64::from_le_bytes(field)).unwrap()
}

#[test]
fn faults_are_reported_without_a_panic() {
    let number = |name: &str, default| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(default)
    };
    let (faults, seed) = (
        number("LIVECORE_FAULTS", 2000),
        number("LIVECORE_SEED", 20_261_123),
    );
    let payload = build("").payload;
    let dumps = [
        ("sealed", seal(&payload, Codec::None, 65536)),
        ("sealed", seal(&payload, Codec::Gzip, 65536)),
        ("sealed", seal(&payload, Codec::Zstd, 65536)),
        ("zstd", build("container live\ncompress zstd\n").bytes),
        ("gzip", build("container live\ncompress gzip\n").bytes),
        ("plain", build("container live\n").bytes),
        ("plain", build("container device\n").bytes),
        ("plain", build("").bytes),
    ];
    // Start of each seal, as its header states it.
    let unsealed: Vec<_> = dumps[..3]
        .iter()
        .map(|(_, dump)| stored_len(dump))
        .collect();
    let options = Options::default().threads(NonZeroUsize::new(2).unwrap());
    for (kind, dump) in &dumps {
        let report = verify(dump, &options);
        assert_eq!(
            report.verdict,
            Verdict::Sound,
            "{kind}: {}",
            describe(&report)
        );
    }
    let mut random = Random::new(seed);
    for i in 0..faults {
        let number = random.index(dumps.len());
        let (kind, dump) = &dumps[number];
        let mut bytes = dump.clone();
        let what = fault(&mut random, &mut bytes);
        if bytes == *dump || bytes.is_empty() {
            continue;
        }
        let report = verify(&bytes, &options);
        let unreported = report.verdict == Verdict::Sound;
        let harmless = match *kind {
            "sealed" => dump.starts_with(&bytes) && unsealed.contains(&bytes.len()),
            "plain" => true,
            kind => unreported && content(kind, &bytes) == content(kind, dump),
        };
        assert!(
            !unreported || harmless,
            "seed {seed}, fault {i}: dump {number}, {kind}, {what}: {}",
            describe(&report)
        );
    }
}

/// All architectures, containers and codecs, sound and broken, with memory limits that some exceed.
#[test]
fn faults_in_every_recipe_end_in_a_verdict() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dumps");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "dump"))
        .collect();
    paths.sort();
    assert!(paths.len() > 100);
    let seed = 20_261_123;
    let mut random = Random::new(seed);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let built = livecore_tests::mkdump::build_all(&text).unwrap();
        for i in 0..6 {
            let mut bytes = built.bytes.clone();
            let what = if bytes.is_empty() {
                String::new()
            } else {
                fault(&mut random, &mut bytes)
            };
            let options = Options::default()
                .name(format!(
                    "seed {seed}, {}, fault {i}: {what}",
                    path.display()
                ))
                .depth([Depth::Quick, Depth::Default, Depth::Deep][i % 3])
                .memory(if i % 2 == 0 { 1 << 20 } else { 64 << 20 })
                .info(built.info.as_deref());
            let report = verify(&bytes, &options);
            let errors = report.count(livecore_verify::Severity::Error);
            let broken = report.verdict == Verdict::Broken;
            assert_eq!(errors > 0 && report.verdict.reason().is_none(), broken);
        }
    }
}
