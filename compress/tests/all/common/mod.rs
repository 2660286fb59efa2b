//! Content and streams for the tests of this crate.
#![allow(dead_code, reason = "each test uses a part of this")]

use std::num::NonZeroUsize;
use std::sync::Arc;

use livecore_compress::*;
use livecore_tests::random::Random;

/// Content similar to memory: zero pages, repeated pages, text, random bytes.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        match numbers.below(5) {
            0 => bytes.extend([0; 4096]),
            1 => bytes.extend([numbers.next() as u8; 4096]),
            2 => {
                for _ in 0..512 {
                    bytes.extend(numbers.next().to_le_bytes());
                }
            }
            _ => {
                for line in 0..64 {
                    let text = format!(
                        "{line:08x} {:#x} fffff80000{:06x} kernel text, data\n",
                        numbers.below(100),
                        numbers.below(1 << 20)
                    );
                    bytes.extend(&text.as_bytes()[..text.len().min(64)]);
                }
            }
        }
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn threads(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

pub(crate) fn encoding(codec: Codec, frame_size: u32, n: usize) -> Encoding {
    Encoding::new(codec)
        .frame_size(frame_size)
        .threads(threads(n))
}

pub(crate) const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

pub(crate) fn stored(content: &[u8], encoding: &Encoding, shape: Shape) -> (Vec<u8>, Stored) {
    let mut out = Vec::new();
    let stored = encode_at(&content, encoding, shape, &mut out, &NoProgress).unwrap();
    assert_eq!(stored.stored_len, out.len() as u64);
    assert_eq!(stored.content_len, content.len() as u64);
    (out, stored)
}

pub(crate) fn sealed(content: &[u8], encoding: &Encoding, attachment: &[u8]) -> Vec<u8> {
    let (mut out, stored) = stored(content, encoding, Shape::Frames);
    let before = out.len() as u64;
    let written = write_seal(&stored, attachment, &mut out).unwrap();
    assert_eq!(before + written, out.len() as u64);
    out
}

pub(crate) fn options() -> OpenOptions {
    OpenOptions::new().threads(threads(2))
}

pub(crate) fn open(bytes: Vec<u8>) -> Stream {
    Stream::from_source(Arc::new(bytes), &options()).unwrap()
}

/// All content that [`Stream::decode`] returns, and its result.
pub(crate) fn decoded(stream: &Stream) -> (Vec<u8>, Result<u64, Error>) {
    let mut bytes = Vec::new();
    let end = stream.decode(
        &mut |offset, piece| {
            assert_eq!(offset, bytes.len() as u64);
            bytes.extend_from_slice(piece);
            Ok(())
        },
        &NoProgress,
    );
    (bytes, end)
}

/// All content, read in pieces of `step` bytes, and the result.
pub(crate) fn read_all(content: &dyn ReadAt, step: usize) -> (Vec<u8>, std::io::Result<()>) {
    let mut bytes = Vec::new();
    let mut piece = vec![0; step];
    loop {
        match content.read_at(&mut piece, bytes.len() as u64) {
            Ok(0) => return (bytes, Ok(())),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) => return (bytes, Err(e)),
        }
    }
}
