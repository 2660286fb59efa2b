//! Single streams with restart points.

use livecore_compress::{Codec, Encoding, NoProgress, Shape};

/// Size of the content. The first restart point is after at least 1 MiB.
const LEN: usize = 5 << 20;

/// The streams with their codecs and contents. Their states are small.
pub(crate) fn streams() -> Vec<(Codec, Vec<u8>, Vec<u8>)> {
    let page = |number: usize| {
        let word = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut page = vec![(number % 7) as u8; 4096];
        page[100..108].copy_from_slice(&word.to_le_bytes());
        page
    };
    let content: Vec<u8> = (0..LEN / 4096).flat_map(page).collect();
    let stored = |codec| {
        let mut stored = Vec::new();
        let encoding = Encoding::new(codec);
        livecore_compress::encode_at(&content, &encoding, Shape::Single, &mut stored, &NoProgress)
            .expect("content is encoded");
        stored
    };
    [Codec::Gzip, Codec::Zstd]
        .map(|codec| (codec, stored(codec), content.clone()))
        .into()
}
