//! Fuzz targets that run in-process: images changed at random, and laws that hold for all bytes.
//!
//! A small fixed sample runs with the other tests; `LIVECORE_FUZZ_SECONDS` makes each target go on
//! for so long, `LIVECORE_FUZZ_SEED` begins elsewhere. Seed and round are in every failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use livecore_livedump::image::Format;
use livecore_livedump::image::exercise::exercise;
use livecore_tests::random::Random;

use super::common::images;

/// Rounds of the fixed sample.
const ROUNDS: u64 = 120;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {value} is no number")),
    )
}

fn fuzz(format: Format) {
    let seeds = images()
        .into_iter()
        .filter(|row| row.1 == format)
        .map(|row| row.3)
        .collect::<Vec<_>>();
    assert!(!seeds.is_empty());
    let seed = number("LIVECORE_FUZZ_SEED").unwrap_or(0x1a6e) | 1;
    let seconds = number("LIVECORE_FUZZ_SECONDS").map(Duration::from_secs);
    let mut numbers = Random::new(seed);
    let start = Instant::now();
    let mut opened = 0;
    for round in 0.. {
        match seconds {
            Some(seconds) if start.elapsed() >= seconds => break,
            None if round >= ROUNDS => break,
            _ => {}
        }
        let bytes = changed(&seeds, &mut numbers);
        let outcome = catch_unwind(AssertUnwindSafe(|| exercise(&bytes)));
        let Ok(is_image) = outcome else {
            panic!("{}, seed {seed:#x}, round {round}", format.name());
        };
        opened += u32::from(is_image);
    }
    // What is changed must often be an image still, or nothing but openings is tried.
    assert!(opened > 5, "{}: {opened} were images", format.name());
}

fn changed(seeds: &[Vec<u8>], numbers: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[numbers.index(seeds.len())].clone();
    for _ in 0..=numbers.index(4) {
        let len = bytes.len();
        if len < 16 {
            break;
        }
        // Most structure is at the front, Xen's at the end, kdump's at pages.
        let at = match numbers.index(5) {
            0 => numbers.index(len.min(800)),
            1 => len - 1 - numbers.index(len.min(1500)),
            2 => (numbers.index(len / 4096 + 1) * 4096 + numbers.index(120)).min(len - 1),
            3 => numbers.index(len.min(20_000)),
            _ => numbers.index(len),
        };
        let run = numbers.index(80).min(len - at);
        match numbers.index(9) {
            0 | 1 => bytes[at] ^= 1 << numbers.index(8),
            2 => bytes[at] = numbers.next() as u8,
            3 | 4 => {
                let value = [0, 1, 0x1000, u64::MAX, 1 << 63, numbers.next()][numbers.index(6)];
                let width = [2, 4, 8][numbers.index(3)].min(len - at);
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            5 => drop(bytes.drain(at..at + run)),
            6 => {
                let copy = bytes[at..at + run].to_vec();
                bytes.splice(at..at, copy);
            }
            7 => {
                let other = &seeds[numbers.index(seeds.len())];
                let from = numbers.index(other.len());
                let piece = &other[from..other.len().min(from + run)];
                let n = piece.len().min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&piece[..n]);
            }
            _ => bytes.truncate(at + 1),
        }
    }
    bytes
}

#[test]
fn cores_of_qemu() {
    fuzz(Format::Elf);
}

#[test]
fn kdump_files() {
    fuzz(Format::Kdump);
}

#[test]
fn flattened_files() {
    fuzz(Format::KdumpFlattened);
}

#[test]
fn lime_files() {
    fuzz(Format::Lime);
}

#[test]
fn avml_files() {
    fuzz(Format::Avml);
}

#[test]
fn cores_of_virtualbox() {
    fuzz(Format::VirtualBox);
}

#[test]
fn states_of_vmware() {
    fuzz(Format::Vmware);
}

#[test]
fn cores_of_xen() {
    fuzz(Format::Xen);
}

#[test]
fn full_dumps() {
    fuzz(Format::FreeBsdFull);
}
