//! LiME's format, and AVML's compressed one.

use std::io::Write as _;

use super::append::put;
use super::memory::Memory;

fn header(out: &mut Vec<u8>, magic: &[u8; 4], version: u64, start: u64, len: usize) {
    out.extend(magic);
    put(out, 4, &[version]);
    put(out, 8, &[start, start + len as u64 - 1, 0]);
}

/// A LiME file, a range for each of memory's.
#[must_use]
pub fn lime(memory: &Memory) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, bytes) in &memory.ranges {
        header(&mut out, b"EMiL", 1, *start, bytes.len());
        out.extend(bytes);
    }
    out
}

/// An AVML file, ranges of up to `block` bytes. A range of zeros alone is left out.
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

/// What AVML 0.17.0 wrote: ranges of up to `block` bytes, of which those of zeros alone are a header
/// and nothing else. Version 1 (LiME's) or 2 (compressed).
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
