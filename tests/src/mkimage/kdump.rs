//! makedumpfile's compressed format, and flattened files.

use std::io::Write as _;

use super::append::{pad, put};
use super::elf::notes;
use super::memory::Memory;

/// How a page is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// zlib, flag 1.
    Zlib,
    /// LZO, flag 2.
    Lzo,
    /// snappy, flag 4.
    Snappy,
    /// zstd, flag 0x20.
    Zstd,
}

/// How to write a file.
#[derive(Debug, Clone, Copy)]
pub struct Kdump {
    /// Codecs, assigned to pages in turn. A page that does not shrink is stored plain.
    pub codecs: &'static [Codec],
    /// Structures of a 64-bit machine; otherwise of a 32-bit one.
    pub wide: bool,
    /// Processors in the notes.
    pub cpus: u32,
    /// Store one copy of the zero page.
    pub share_zeros: bool,
    /// Exclude the pages whose frame number is a multiple of this; 0 for none.
    pub exclude_every: u64,
    /// Write an incomplete file with this many pages.
    pub written: Option<usize>,
}

impl Default for Kdump {
    fn default() -> Self {
        Self {
            codecs: &[Codec::Zlib],
            wide: true,
            cpus: 2,
            share_zeros: true,
            exclude_every: 0,
            written: None,
        }
    }
}

fn compress(codec: Codec, page: &[u8]) -> (u64, Vec<u8>) {
    let (flag, bytes) = match codec {
        Codec::Plain => (0, page.to_vec()),
        Codec::Zlib => {
            let fast = flate2::Compression::fast();
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), fast);
            encoder.write_all(page).unwrap();
            (1, encoder.finish().unwrap())
        }
        Codec::Lzo => (2, lzokay::compress::compress(page).unwrap()),
        Codec::Snappy => (4, snap::raw::Encoder::new().compress_vec(page).unwrap()),
        Codec::Zstd => (0x20, zstd::bulk::compress(page, 1).unwrap()),
    };
    if bytes.len() < page.len() {
        (flag, bytes)
    } else {
        (0, page.to_vec())
    }
}

/// A file of format version 6 with blocks of 4096 bytes.
///
/// # Panics
///
/// If a codec fails.
#[must_use]
pub fn kdump(memory: &Memory, how: &Kdump) -> Vec<u8> {
    const BLOCK: usize = 4096;
    let notes = notes(how.cpus, how.wide, true);
    let sub_size = if how.wide { 104 } else { 80 };
    let sub_blocks = (sub_size + notes.len()).div_ceil(BLOCK);
    let max = memory.end() / BLOCK as u64;
    let one_bitmap = (max as usize).div_ceil(8).div_ceil(BLOCK);

    // struct disk_dump_header
    let mut out = b"KDUMP   ".to_vec();
    put(&mut out, 4, &[6]);
    for name in ["Linux", "guest", "", "", "x86_64", ""] {
        out.extend(name.bytes());
        out.resize(out.len() + 65 - name.len(), 0);
    }
    // A timeval, aligned to a word of the machine.
    pad(&mut out, if how.wide { 8 } else { 4 });
    out.resize(out.len() + if how.wide { 16 } else { 8 }, 0);
    put(
        &mut out,
        4,
        &[
            if how.written.is_some() { 8 } else { 1 },
            BLOCK as u64,
            sub_blocks as u64,
            2 * one_bitmap as u64,
            max,
        ],
    );
    put(&mut out, 4, &[0, 0, 0, 0, u64::from(how.cpus)]);
    pad(&mut out, BLOCK);

    // struct kdump_sub_header
    let note_at = (BLOCK + sub_size) as u64;
    let note_len = notes.len() as u64;
    if how.wide {
        put(&mut out, 8, &[0]);
        put(&mut out, 4, &[1, 0]);
        put(
            &mut out,
            8,
            &[0, 0, 0, 0, note_at, note_len, 0, 0, 0, 0, max],
        );
    } else {
        put(&mut out, 4, &[0, 1, 0, 0, 0]);
        put(&mut out, 8, &[0]);
        put(&mut out, 4, &[0]);
        put(&mut out, 8, &[note_at]);
        put(&mut out, 4, &[note_len]);
        put(&mut out, 8, &[0]);
        put(&mut out, 4, &[0]);
        put(&mut out, 8, &[0, 0, max]);
    }
    assert_eq!(out.len(), BLOCK + sub_size);
    out.extend(&notes);
    pad(&mut out, BLOCK);

    let is_excluded =
        |number: u64| how.exclude_every > 0 && number.is_multiple_of(how.exclude_every);
    let mut bitmaps = vec![0_u8; 2 * one_bitmap * BLOCK];
    for (number, _) in memory.pages() {
        let (byte, bit) = (number as usize / 8, 1 << (number % 8));
        bitmaps[byte] |= bit;
        if !is_excluded(number) {
            bitmaps[one_bitmap * BLOCK + byte] |= bit;
        }
    }
    out.extend(&bitmaps);

    let kept = memory
        .pages()
        .filter(|(number, _)| !is_excluded(*number))
        .collect::<Vec<_>>();
    let data_at = (out.len() + 24 * kept.len()) as u64;
    let mut data: Vec<u8> = Vec::new();
    let mut zeros = None;
    for (index, ((_, page), codec)) in kept.iter().zip(how.codecs.iter().cycle()).enumerate() {
        if how.written.is_some_and(|written| index >= written) {
            put(&mut out, 8, &[0, 0, 0]);
            continue;
        }
        let is_zero = page.iter().all(|byte| *byte == 0);
        let (flag, offset, len) = match zeros {
            Some(shared) if is_zero && how.share_zeros => shared,
            _ => {
                let (flag, bytes) = compress(*codec, page);
                let offset = data_at + data.len() as u64;
                data.extend(&bytes);
                (flag, offset, bytes.len() as u64)
            }
        };
        if is_zero {
            zeros = Some((flag, offset, len));
        }
        put(&mut out, 8, &[offset]);
        put(&mut out, 4, &[len, flag]);
        put(&mut out, 8, &[0]);
    }
    out.extend(data);
    out
}

/// Flattens `file` into pieces of at most `piece` bytes, as makedumpfile writes to a pipe. If
/// `shuffled`, every second piece comes after all the others.
#[must_use]
pub fn flatten(file: &[u8], piece: usize, shuffled: bool) -> Vec<u8> {
    let mut out = b"makedumpfile\0\0\0\0".to_vec();
    out.extend(1_i64.to_be_bytes());
    out.extend(1_i64.to_be_bytes());
    pad(&mut out, 4096);
    let pieces = file.chunks(piece).enumerate().collect::<Vec<_>>();
    let (even, odd): (Vec<_>, Vec<_>) = pieces.iter().partition(|(i, _)| !shuffled || i % 2 == 0);
    for (index, bytes) in even.into_iter().chain(odd) {
        out.extend(((index * piece) as i64).to_be_bytes());
        out.extend((bytes.len() as i64).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    out.extend((-1_i64).to_be_bytes());
    out.extend((-1_i64).to_be_bytes());
    out
}
