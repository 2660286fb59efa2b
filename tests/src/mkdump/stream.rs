//! The stored form of the payload: compressed, encrypted.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::encryption;
use super::error::{BuildError, Result};
use super::recipe::{Codec, Recipe};

/// The most bytes that a dumper passes to the codec at once.
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
    if let Some(key) = recipe.key {
        encryption::encrypt(key, &mut stored);
    }
    Ok(stored)
}

fn pieces(payload: &[u8], piece: u64) -> std::slice::Chunks<'_, u8> {
    payload.chunks(usize::try_from(piece).unwrap_or(usize::MAX))
}

/// A member header as the kernel writes it: no flags, no time, XFL 0, OS 3 (Unix).
const KERNEL_MEMBER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// A member header with name and time.
const PIGZ_MEMBER: [u8; 17] = *b"\x1f\x8b\x08\x08\x00\xf1\x53\x65\x00\x03vmcore\0";

/// A gzip member. With `flush` a block ends on a byte boundary after every `flush` bytes.
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

/// A zstd frame. The kernel's frames have a checksum and no content size.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkdump::content::noise;
    use std::io::Read as _;

    #[test]
    fn gzip_members_decompress_to_the_payload() {
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

    /// The first bytes of a zstd dump of a FreeBSD 12.1 system.
    #[test]
    fn zstd_frame_header_matches_a_real_dump() {
        let payload: Vec<u8> = (0..60_000u64)
            .flat_map(|i| noise(1, i / 4).to_le_bytes())
            .collect();
        let stored = frame(&payload, 6, false, true).unwrap();
        assert_eq!(stored[..6], [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58]);
        assert_eq!(zstd::stream::decode_all(&stored[..]).unwrap(), payload);
    }
}
