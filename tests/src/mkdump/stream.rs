//! The payload as stored: compressed, and hidden behind a key.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::content::noise;
use super::error::{BuildError, Result};
use super::recipe::{Codec, Recipe};

/// The largest piece a dumper hands on at once.
const PIECE: usize = 65536;

/// The stored form of `payload`.
pub(crate) fn store(recipe: &Recipe, payload: &[u8]) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| BuildError::Codec(error.to_string());
    let level = recipe.level;
    let stored = match recipe.codec {
        Codec::None => Ok(payload.to_vec()),
        Codec::Gzip => member(payload, level, &KERNEL_MEMBER, None),
        Codec::Pigz => member(payload, level, &PIGZ_MEMBER, Some(128 << 10)),
        Codec::GzipMembers(piece) => pieces(payload, piece)
            .map(|part| member(part, level, &KERNEL_MEMBER, None))
            .collect::<std::io::Result<Vec<_>>>()
            .map(|parts| parts.concat()),
        Codec::Zstd => frame(payload, level, false, true),
        Codec::ZstdSized => frame(payload, level, true, true),
        Codec::ZstdUnchecked => frame(payload, level, false, false),
        Codec::ZstdFrames(piece) => pieces(payload, piece)
            .map(|part| frame(part, level, false, true))
            .collect::<std::io::Result<Vec<_>>>()
            .map(|parts| parts.concat()),
    };
    let mut stored = stored.map_err(failed)?;
    if recipe.key.is_some() {
        hide(&mut stored);
    }
    Ok(stored)
}

fn pieces(payload: &[u8], piece: u64) -> std::slice::Chunks<'_, u8> {
    payload.chunks(usize::try_from(piece).unwrap_or(usize::MAX))
}

/// A member header as the kernel writes it: no flags, no time, XFL 0, OS 3 (Unix).
const KERNEL_MEMBER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// One with a name and a time.
const PIGZ_MEMBER: [u8; 17] = *b"\x1f\x8b\x08\x08\x00\xf1\x53\x65\x00\x03vmcore\0";

/// One gzip member. With `flush` a block ends on a byte boundary after so many bytes.
fn member(
    payload: &[u8],
    level: i32,
    header: &[u8],
    flush: Option<usize>,
) -> std::io::Result<Vec<u8>> {
    let level = Compression::new(u32::try_from(level).unwrap_or(6).min(9));
    let mut encoder = DeflateEncoder::new(header.to_vec(), level);
    for part in payload.chunks(flush.unwrap_or(PIECE)) {
        encoder.write_all(part)?;
        if flush.is_some() {
            encoder.flush()?;
        }
    }
    let mut out = encoder.finish()?;
    let mut crc = flate2::Crc::new();
    crc.update(payload);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    Ok(out)
}

/// One zstd frame. The kernel's has a checksum and does not know the content's size.
pub(crate) fn frame(
    payload: &[u8],
    level: i32,
    sized: bool,
    checked: bool,
) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), level)?;
    encoder.include_checksum(checked)?;
    if sized {
        encoder.set_pledged_src_size(Some(payload.len() as u64))?;
    }
    encoder.include_contentsize(sized)?;
    for part in payload.chunks(PIECE) {
        encoder.write_all(part)?;
    }
    encoder.finish()
}

/// Makes bytes look enciphered. No reader decrypts them: only that they are not
/// plain matters.
fn hide(bytes: &mut [u8]) {
    for (i, chunk) in bytes.chunks_mut(8).enumerate() {
        let stream = noise(0x006b_6579, i as u64).to_le_bytes();
        for (byte, key) in chunk.iter_mut().zip(stream) {
            *byte ^= key;
        }
    }
}

/// The key block: algorithm, initial vector, wrapped key, zeros to `size` bytes.
///
/// FreeBSD `sys/sys/kerneldump.h`, `struct kerneldumpkey`.
pub(crate) fn key_block(algorithm: u8, wrapped: u64, size: u64) -> Vec<u8> {
    let mut out = vec![algorithm];
    out.extend((0..4).flat_map(|i| noise(0x6976, i).to_le_bytes()));
    out.extend_from_slice(&(wrapped as u32).to_be_bytes());
    let words = wrapped.div_ceil(8);
    let key: Vec<u8> = (0..words)
        .flat_map(|i| noise(0x6b, i).to_le_bytes())
        .collect();
    out.extend_from_slice(&key[..wrapped as usize]);
    out.resize(size as usize, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_kernel_member_is_what_gunzip_reads() {
        let payload = vec![7u8; 200_000];
        for flush in [None, Some(1000)] {
            let stored = member(&payload, 6, &KERNEL_MEMBER, flush).unwrap();
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(&stored[..])
                .read_to_end(&mut back)
                .unwrap();
            assert_eq!(back, payload);
        }
    }

    /// The first bytes of a zstd dump on a real 12.1 system.
    #[test]
    fn a_kernel_frame_starts_as_on_a_real_dump() {
        let payload: Vec<u8> = (0..60_000u64)
            .flat_map(|i| noise(1, i / 4).to_le_bytes())
            .collect();
        let stored = frame(&payload, 6, false, true).unwrap();
        assert_eq!(stored[..6], [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58]);
        assert_eq!(zstd::stream::decode_all(&stored[..]).unwrap(), payload);
    }

    #[test]
    fn the_key_block_has_its_packed_layout() {
        let block = key_block(1, 256, 512);
        assert_eq!(block.len(), 512);
        assert_eq!((block[0], &block[33..37]), (1, &[0, 0, 1, 0][..]));
        assert!(block[37 + 256..].iter().all(|byte| *byte == 0));
        assert_ne!(block[37 + 255], 0);
    }
}
