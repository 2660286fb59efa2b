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

/// A list longer than one part.
fn list() -> Vec<u8> {
    (0..150_000_u32).map(|i| (i / 7) as u8).collect()
}

#[test]
fn lists_and_content_are_read_back() {
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
fn every_flipped_bit_of_parts_and_seal_is_an_error() {
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
fn a_stream_with_parts_and_a_truncated_seal_has_all_of_its_content() {
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
fn a_list_above_the_memory_limit_is_an_error() {
    let bytes = with_parts(&[7; 5000], Codec::Zstd, 0, 1);
    let small = options().memory(400_000);
    let stream = Stream::from_source(Arc::new(bytes), &small).unwrap();
    let error = stream.list(PART_UNPROVEN).unwrap_err();
    assert!(
        matches!(error, Error::Memory { needed, limit: 100_000, .. } if needed > 100_000),
        "{error}"
    );
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

fn salvaged(bytes: Vec<u8>) -> salvage::Salvage {
    salvage::Salvage::recover(Arc::new(bytes), &options(), &NoProgress).unwrap()
}

/// Checks that proven content is right. Returns the offsets of unproven or lost bytes.
fn right_where_proven(found: &salvage::Salvage, content: &[u8], what: &str) -> Vec<u64> {
    let mut proven = vec![false; content.len()];
    for piece in found.pieces() {
        let (from, to) = (piece.content.start as usize, piece.content.end as usize);
        let mut bytes = vec![0; to - from];
        found
            .content()
            .read_exact_at(&mut bytes, from as u64)
            .unwrap();
        if piece.proof == salvage::Proof::Checksum {
            assert!(bytes == content[from..to], "{what}: {from:#x}..{to:#x}");
            proven[from..to].fill(true);
        }
    }
    (0..content.len() as u64)
        .filter(|at| !proven[*at as usize])
        .collect()
}

#[test]
fn a_damaged_block_loses_only_its_frame_and_no_copied_content() {
    const COPY: u64 = 3 * FRAME as u64 + 5000;
    let content = content(20 * FRAME as usize + 77, 15);
    for codec in CODECS {
        let whole = with_parts(&content, codec, COPY, 2);
        let frames = open(whole.clone()).frames().unwrap().clone();
        for at in (0..whole.len()).step_by(4096) {
            let mut bytes = whole.clone();
            let end = (at + 4096).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|b| *b ^= 0x55);
            let what = format!("{codec}: block at {at:#x}");
            let found = salvaged(bytes);
            assert!(!found.damage().is_empty(), "{what}");
            let lost = right_where_proven(&found, &content, &what);
            if codec == Codec::None && at as u64 >= frames.stored_len() {
                // Without an index only the copy proves uncompressed bytes.
                continue;
            }
            for offset in lost {
                let frame = frames.find(offset).unwrap();
                let stored = frame.offset..frame.offset + u64::from(frame.entry.stored_len);
                let hit = stored.start < end as u64 && stored.end > at as u64;
                assert!(hit && offset >= COPY, "{what}: {offset:#x} is lost");
            }
        }
    }
}

#[test]
fn content_before_the_damage_of_a_frame_is_unproven() {
    let content = content(8 * 600_000, 16);
    for codec in CODECS {
        let mut bytes = sealed(&content, &encoding(codec, 1 << 20, 2), b"");
        let frame = open(bytes.clone()).frames().unwrap().get(1).unwrap();
        let end = frame.offset + u64::from(frame.entry.stored_len);
        let at = end as usize - frame.entry.stored_len as usize / 8;
        bytes[at..at + 64].fill(0xff);
        let found = salvaged(bytes);
        let unproven: u64 = found
            .pieces()
            .iter()
            .filter(|piece| piece.proof == salvage::Proof::None)
            .map(|piece| piece.content.end - piece.content.start)
            .sum();
        assert!(unproven >= 1 << 19, "{codec}: {unproven}");
        assert!(unproven <= 1 << 20, "{codec}: {unproven}");
        let got = found.pieces().iter().map(|p| p.content.end).max();
        assert_eq!(got, Some(content.len() as u64));
    }
}

#[test]
fn parts_of_another_file_are_ignored() {
    for codec in CODECS {
        let inner = with_parts(&content(200_000, 31), codec, 100_000, 1);
        let mut memory = content(64 << 10, 32);
        memory.extend(&inner);
        memory.extend(content(64 << 10, 33));
        let mut bytes = sealed(&memory, &encoding(Codec::None, FRAME, 1), b"");
        bytes[70_000] ^= 1;
        let found = salvaged(bytes);
        let lost = right_where_proven(&found, &memory, "inner parts");
        assert_eq!(lost.len(), FRAME as usize, "{codec}");
    }
}
