//! Randomly damaged images must not make a reader panic or contradict itself.
//!
//! A small fixed sample runs by default; with `LIVECORE_FUZZ_SECONDS` each test runs for that long,
//! from seed `LIVECORE_FUZZ_SEED`. A failure prints seed and round.

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
            .unwrap_or_else(|_| panic!("{name}: {value} is not a number")),
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
    let mut random = Random::new(seed);
    let start = Instant::now();
    let mut opened = 0;
    for round in 0.. {
        match seconds {
            Some(seconds) if start.elapsed() >= seconds => break,
            None if round >= ROUNDS => break,
            _ => {}
        }
        let bytes = changed(&seeds, &mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| exercise(&bytes)));
        let Ok(is_image) = outcome else {
            panic!("{}, seed {seed:#x}, round {round}", format.name());
        };
        opened += u32::from(is_image);
    }
    // Enough damaged images must still open, or only opening is tested.
    assert!(opened > 5, "{}: {opened} opened", format.name());
}

fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.index(seeds.len())].clone();
    for _ in 0..=random.index(4) {
        let len = bytes.len();
        if len < 16 {
            break;
        }
        // Most structures are at the start, those of Xen at the end, those of kdump at pages.
        let at = match random.index(5) {
            0 => random.index(len.min(800)),
            1 => len - 1 - random.index(len.min(1500)),
            2 => (random.index(len / 4096 + 1) * 4096 + random.index(120)).min(len - 1),
            3 => random.index(len.min(20_000)),
            _ => random.index(len),
        };
        let run = random.index(80).min(len - at);
        match random.index(9) {
            0 | 1 => bytes[at] ^= 1 << random.index(8),
            2 => bytes[at] = random.next() as u8,
            3 | 4 => {
                let value = [0, 1, 0x1000, u64::MAX, 1 << 63, random.next()][random.index(6)];
                let width = [2, 4, 8][random.index(3)].min(len - at);
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            5 => drop(bytes.drain(at..at + run)),
            6 => {
                let copy = bytes[at..at + run].to_vec();
                bytes.splice(at..at, copy);
            }
            7 => {
                let other = &seeds[random.index(seeds.len())];
                let from = random.index(other.len());
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
fn damaged_qemu_cores_do_not_panic() {
    fuzz(Format::Elf);
}

#[test]
fn damaged_kdump_files_do_not_panic() {
    fuzz(Format::Kdump);
}

#[test]
fn damaged_flattened_files_do_not_panic() {
    fuzz(Format::KdumpFlattened);
}

#[test]
fn damaged_lime_files_do_not_panic() {
    fuzz(Format::Lime);
}

#[test]
fn damaged_avml_files_do_not_panic() {
    fuzz(Format::Avml);
}

#[test]
fn damaged_virtualbox_cores_do_not_panic() {
    fuzz(Format::VirtualBox);
}

#[test]
fn damaged_vmware_states_do_not_panic() {
    fuzz(Format::Vmware);
}

#[test]
fn damaged_xen_cores_do_not_panic() {
    fuzz(Format::Xen);
}

#[test]
fn damaged_full_dumps_do_not_panic() {
    fuzz(Format::FreeBsdFull);
}
