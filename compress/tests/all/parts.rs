//! Parts of a seal: the copy of the content's beginning, and lists.

use crate::common;

use std::sync::Arc;

use common::*;
use livecore_compress::seal::format::*;
use livecore_compress::*;

const FRAME: u32 = 16384;
const KINDS: u32 = 77;

/// A sealed stream with a copy of `copy` bytes and two lists.
fn with_parts(content: &[u8], codec: Codec, copy: u64, n: usize) -> Vec<u8> {
    let encoding = encoding(codec, FRAME, n).copy(copy);
    let (mut out, mut stored) = stored(content, &encoding, Shape::Frames);
    stored.add_list(PART_UNPROVEN, &list());
    stored.add_list(KINDS, b"of the future");
    let written = write_seal(&stored, b"attached", &mut out).unwrap();
    assert_eq!(stored.stored_len + written, out.len() as u64);
    out
}

/// More than one part holds.
fn list() -> Vec<u8> {
    (0..150_000_u32).map(|i| (i / 7) as u8).collect()
}

#[test]
fn lists_come_back_whole_and_content_is_the_same() {
    for codec in CODECS {
        let content = content(10 * FRAME as usize + 77, 5);
        let bytes = with_parts(&content, codec, 100_000, 2);
        assert_eq!(bytes, with_parts(&content, codec, 100_000, 1), "{codec}");
        let stream = open(bytes);
        assert!(stream.seal_damage().is_none(), "{:?}", stream.seal_damage());
        assert_eq!(stream.attachment(), Some(&b"attached"[..]));
        assert_eq!(stream.list(PART_UNPROVEN).unwrap(), Some(list()));
        let future = stream.list(KINDS).unwrap();
        assert_eq!(future.as_deref(), Some(&b"of the future"[..]));
        assert_eq!(stream.list(78).unwrap(), None);
        assert!(decoded(&stream).0 == content);
        assert_eq!(stream.check(&NoProgress).unwrap(), content.len() as u64);
    }
}

#[test]
fn every_flipped_bit_of_parts_and_seal_is_found() {
    for codec in CODECS {
        let content = vec![3; 9000];
        let encoding = encoding(codec, FRAME, 1).copy(6000);
        let (mut bytes, mut stored) = stored(&content, &encoding, Shape::Frames);
        stored.add_list(PART_UNPROVEN, &[9; 32]);
        write_seal(&stored, b"attached", &mut bytes).unwrap();
        open(bytes.clone()).check(&NoProgress).unwrap();
        for at in stored.stored_len as usize..bytes.len() {
            for bit in [at % 8, (at + 3) % 8] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let checked = Stream::from_source(Arc::new(flipped), &options())
                    .and_then(|stream| stream.check(&NoProgress));
                assert!(checked.is_err(), "{codec}: bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn stream_whose_seal_with_parts_is_cut_has_all_of_its_content() {
    let content = content(100_000, 9);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = with_parts(&content, codec, 50_000, 1);
        let start = usize::try_from(open(whole.clone()).data_len().unwrap()).unwrap();
        for cut in (start + 14..whole.len()).step_by(997) {
            let stream = open(whole[..cut].to_vec());
            assert!(stream.seal_damage().is_some(), "{codec}, cut at {cut}");
            assert_eq!(stream.known_len(), Some(100_000), "{codec}, cut at {cut}");
            assert!(decoded(&stream).0 == content, "{codec}, cut at {cut}");
        }
    }
}

#[test]
fn list_beyond_the_memory_is_refused_with_the_option_that_raises_it() {
    let bytes = with_parts(&[7; 5000], Codec::Zstd, 0, 1);
    let small = options().memory(400_000);
    let stream = Stream::from_source(Arc::new(bytes), &small).unwrap();
    let error = stream.list(PART_UNPROVEN).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }));
    assert!(error.to_string().ends_with("raise it with --memory SIZE"));
    assert!(stream.list(KINDS).unwrap().is_some());
}

#[test]
fn seal_without_parts_is_of_version_1_and_one_with_parts_of_version_2() {
    for codec in CODECS {
        for (bytes, version) in [
            (
                sealed(&[1; 5000], &encoding(codec, FRAME, 1), b""),
                VERSION_1,
            ),
            (with_parts(&[1; 5000], codec, 10, 1), VERSION),
        ] {
            let at = bytes.windows(8).rposition(|w| w == MAGIC).unwrap();
            assert_eq!(bytes[at + 8..at + 10], version.to_le_bytes(), "{codec}");
        }
    }
}
