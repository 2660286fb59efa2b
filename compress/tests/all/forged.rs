//! Forged seals: the digests are right and the statements are wrong.

use crate::common;

use std::sync::Arc;

use common::*;
use livecore_compress::seal::format::*;
use livecore_compress::*;
use xxhash_rust::xxh64::xxh64;

const FRAME: u32 = 4096;
const FRAMES: usize = 8;

/// Offsets of header, index and data in an uncompressed or zstd stream with an empty attachment.
struct Places {
    header: usize,
    index: usize,
}

fn places(codec: Codec, data_len: usize) -> Places {
    let header = data_len + if codec == Codec::Zstd { 8 } else { 0 };
    Places {
        header,
        index: header + HEADER_LEN_1,
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A sealed stream whose header and index `change` altered, with new digests.
fn forged(codec: Codec, change: impl Fn(&mut [u8], &Places)) -> (Vec<u8>, Vec<u8>) {
    let content = content(FRAMES * FRAME as usize, 77);
    let mut bytes = sealed(&content, &encoding(codec, FRAME, 1), &[]);
    let data_len = open(bytes.clone()).data_len().unwrap() as usize;
    let at = places(codec, data_len);
    assert_eq!(bytes[at.header..at.header + 8], MAGIC);
    change(&mut bytes, &at);
    let count = u64::from_le_bytes(bytes[at.header + 32..at.header + 40].try_into().unwrap());
    let len = (count as usize).saturating_mul(ENTRY_LEN);
    if let Some(index) = bytes.get(at.index..at.index.saturating_add(len)) {
        let digest = xxh64(index, 0);
        put(&mut bytes, at.header + 56, &digest.to_le_bytes());
    }
    let digest = xxh64(&bytes[at.header..at.header + HEADER_DIGESTED], 0);
    put(
        &mut bytes,
        at.header + HEADER_DIGESTED,
        &digest.to_le_bytes(),
    );
    (content, bytes)
}

/// Checks that a forged stream returns only right content, at the right offset.
fn never_wrong(codec: Codec, name: &str, change: impl Fn(&mut [u8], &Places)) {
    let (content, bytes) = forged(codec, change);
    let what = format!("{codec}: {name}");
    let stream = match Stream::from_source(Arc::new(bytes), &options()) {
        Ok(stream) => stream,
        Err(Error::Broken { .. }) => return,
        Err(other) => panic!("{what}: {other}"),
    };
    assert!(stream.check(&NoProgress).is_err(), "{what} is found");
    if codec == Codec::None && stream.frames().is_none() {
        // Without an index uncompressed bytes have no checks; the damage was reported.
        assert!(stream.seal_damage().is_some(), "{what}");
        return;
    }
    let (out, _) = decoded(&stream);
    assert!(content.starts_with(&out), "{what}");
    let reader = stream.content();
    for number in 0..2 * FRAMES as u64 {
        let mut page = [0; 4096];
        let at = number * 4096;
        if let Ok(n) = reader.read_full_at(&mut page, at) {
            let from = (at as usize).min(content.len());
            let to = (from + n).min(content.len());
            assert!(page[..n] == content[from..to], "{what}: page {number}");
        }
    }
}

fn entry(at: &Places, number: usize) -> usize {
    at.index + number * ENTRY_LEN
}

fn add(bytes: &mut [u8], at: usize, more: i64) {
    let old = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    put(bytes, at, &((i64::from(old) + more) as u32).to_le_bytes());
}

#[test]
fn a_forged_index_never_gives_wrong_content() {
    for codec in [Codec::None, Codec::Zstd] {
        never_wrong(codec, "frames overlap", |bytes, at| {
            add(bytes, entry(at, 2), 7);
            add(bytes, entry(at, 3), -7);
        });
        never_wrong(codec, "a frame of no bytes", |bytes, at| {
            let len = u32::from_le_bytes(bytes[entry(at, 2)..][..4].try_into().unwrap());
            add(bytes, entry(at, 2), -i64::from(len));
            add(bytes, entry(at, 3), len.into());
        });
        never_wrong(codec, "a frame of 4 GiB", |bytes, at| {
            put(bytes, entry(at, 2), &[0xff; 4]);
        });
        never_wrong(codec, "frames exchanged", |bytes, at| {
            let (a, b) = (entry(at, 1), entry(at, 2));
            let first: [u8; ENTRY_LEN] = bytes[a..a + ENTRY_LEN].try_into().unwrap();
            bytes.copy_within(b..b + ENTRY_LEN, a);
            put(bytes, b, &first);
        });
        never_wrong(codec, "another content check", |bytes, at| {
            add(bytes, entry(at, 4) + 4, 1);
        });
        never_wrong(codec, "another stored check", |bytes, at| {
            add(bytes, entry(at, 4) + 8, 1);
        });
    }
}

#[test]
fn a_forged_header_never_gives_wrong_content() {
    for codec in [Codec::None, Codec::Zstd] {
        let field = |offset: usize, value: Vec<u8>| {
            move |bytes: &mut [u8], at: &Places| put(bytes, at.header + offset, &value)
        };
        for (name, offset, value) in [
            ("version", 8, 2_u16.to_le_bytes().to_vec()),
            ("codec", 10, vec![1]),
            ("reserved byte", 11, vec![1]),
            ("no frame size", 12, vec![0; 4]),
            (
                "a frame size that is odd",
                12,
                4097_u32.to_le_bytes().to_vec(),
            ),
            ("frames of 4 GiB", 12, vec![0, 0xf0, 0xff, 0xff]),
            (
                "frames of twice the size",
                12,
                8192_u32.to_le_bytes().to_vec(),
            ),
            ("a content of 2^64", 16, vec![0xff; 8]),
            (
                "a shorter content",
                16,
                (7 * 4096_u64).to_le_bytes().to_vec(),
            ),
            (
                "a content less a byte",
                16,
                (8 * 4096_u64 - 1).to_le_bytes().to_vec(),
            ),
            ("less data", 24, 1_u64.to_le_bytes().to_vec()),
            ("2^64 frames", 32, vec![0xff; 8]),
            ("an attachment of 4 GiB", 40, vec![0xff; 4]),
            (
                "an attachment of a megabyte",
                40,
                (1_u32 << 20).to_le_bytes().to_vec(),
            ),
            ("reserved bytes", 44, vec![1]),
            ("another attachment", 48, vec![1]),
        ] {
            never_wrong(codec, name, field(offset, value));
        }
        // Size and number that agree with each other, but not with the frames.
        never_wrong(
            codec,
            "half as many frames of twice the size",
            |bytes, at| {
                put(bytes, at.header + 12, &8192_u32.to_le_bytes());
                put(bytes, at.header + 32, &4_u64.to_le_bytes());
            },
        );
        never_wrong(
            codec,
            "2^40 frames of content that is not there",
            |bytes, at| {
                put(bytes, at.header + 16, &(1_u64 << 52).to_le_bytes());
                put(bytes, at.header + 32, &(1_u64 << 40).to_le_bytes());
            },
        );
    }
}

#[test]
fn gzip_members_with_wrong_stated_lengths_are_errors() {
    let content = content(FRAMES * FRAME as usize, 78);
    let encoding = encoding(Codec::Gzip, FRAME, 1);
    let (bytes, _) = stored(&content, &encoding, Shape::Frames);
    for (stored_more, content_more) in [
        (1_i64, 0_i64),
        (-1, 0),
        (-60, 0),
        (1 << 30, 0),
        (0, 1),
        (0, -1),
        (0, 1 << 30),
    ] {
        let mut lying = bytes.clone();
        add(&mut lying, 16, stored_more);
        add(&mut lying, 20, content_more);
        let Ok(stream) = Stream::from_source(Arc::new(lying), &options()) else {
            continue;
        };
        let (out, _) = decoded(&stream);
        assert!(content.starts_with(&out));
        assert!(stream.check(&NoProgress).is_err());
    }
}

/// Members with equal content have equal lengths and CRCs, so only the end of the first shows that two
/// members are stated as one.
#[test]
fn two_gzip_members_stated_as_one_are_an_error() {
    let content = [7; 3 * FRAME as usize];
    let encoding = encoding(Codec::Gzip, FRAME, 1);
    let (bytes, _) = stored(&content, &encoding, Shape::Frames);
    assert_eq!(bytes.len() % 3, 0);
    let mut lying = bytes.clone();
    add(&mut lying, 16, bytes.len() as i64 / 3);
    let stream = Stream::from_source(Arc::new(lying), &options()).unwrap();
    assert_eq!(stream.frames().unwrap().count(), 2);
    let (out, end) = decoded(&stream);
    assert_eq!((out.len(), end.is_err()), (0, true));
    // The same with right lengths.
    let stream = Stream::from_source(Arc::new(bytes), &options()).unwrap();
    let (out, end) = decoded(&stream);
    assert!(end.is_ok() && out == content);
}
