//! The formats of LiME and AVML.

use std::io::Write as _;

use super::append::put;
use super::memory::Memory;

fn header(out: &mut Vec<u8>, magic: &[u8; 4], version: u64, start: u64, len: usize) {
    out.extend(magic);
    put(out, 4, &[version]);
    put(out, 8, &[start, start + len as u64 - 1, 0]);
}

/// A LiME file with one range per range of `memory`.
#[must_use]
pub fn lime(memory: &Memory) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, bytes) in &memory.ranges {
        header(&mut out, b"EMiL", 1, *start, bytes.len());
        out.extend(bytes);
    }
    out
}

/// An AVML file with ranges of at most `block` bytes. Ranges of zeros are omitted.
///
/// # Panics
///
/// If snappy fails.
#[must_use]
pub fn avml(memory: &Memory, block: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, bytes) in &memory.ranges {
        for (at, part) in (*start..).step_by(block).zip(bytes.chunks(block)) {
            if part.iter().all(|byte| *byte == 0) {
                continue;
            }
            header(&mut out, b"AVML", 2, at, part.len());
            let from = out.len();
            let mut encoder = snap::write::FrameEncoder::new(&mut out);
            encoder.write_all(part).unwrap();
            encoder.into_inner().unwrap();
            let stored = (out.len() - from) as u64;
            put(&mut out, 8, &[stored]);
        }
    }
    out
}

/// A file of AVML 0.17.0 with ranges of at most `block` bytes; a range of zeros is only a header.
/// Version 1 (LiME's) or 2 (compressed).
///
/// # Panics
///
/// If snappy fails.
#[must_use]
pub fn avml_0170(memory: &Memory, block: usize, version: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, bytes) in &memory.ranges {
        for (at, part) in (*start..).step_by(block).zip(bytes.chunks(block)) {
            let one = Memory {
                ranges: vec![(at, part.to_vec())],
            };
            if part.iter().all(|byte| *byte == 0) {
                let magic = if version == 1 { b"EMiL" } else { b"AVML" };
                header(&mut out, magic, version, at, part.len());
            } else if version == 1 {
                out.extend(lime(&one));
            } else {
                out.extend(avml(&one, block));
            }
        }
    }
    out
}
