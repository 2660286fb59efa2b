//! Altered, truncated and invalid streams: errors, bounded memory, never wrong content.

use crate::common;

use std::sync::Arc;

use common::*;
use livecore_compress::*;
use livecore_tests::random::Random;

const FRAME: u32 = 4096;
const ATTACHMENT: &[u8] = b"five hundred and twelve bytes of something opaque, say";

/// A small sealed stream of two frames.
fn small(codec: Codec) -> (Vec<u8>, Vec<u8>) {
    let mut content = content(2 * FRAME as usize, 21);
    // Small enough to flip every bit.
    for (i, byte) in content.iter_mut().enumerate() {
        if i % 16 > 2 {
            *byte = b'x';
        }
    }
    let bytes = sealed(&content, &encoding(codec, FRAME, 1), ATTACHMENT);
    (content, bytes)
}

fn one_worker() -> OpenOptions {
    OpenOptions::new().threads(threads(1)).memory(1 << 20)
}

fn check(bytes: Vec<u8>) -> Result<u64, Error> {
    Stream::from_source(Arc::new(bytes), &one_worker())?.check(&NoProgress)
}

#[test]
fn every_flipped_bit_of_a_sealed_stream_is_an_error() {
    for codec in CODECS {
        let (content, bytes) = small(codec);
        assert_eq!(check(bytes.clone()).unwrap(), content.len() as u64);
        for at in 0..bytes.len() {
            // All bits of headers and seals, one bit of each byte of uncompressed content.
            let bits = if codec == Codec::None && at < content.len() {
                1
            } else {
                8
            };
            for bit in 0..bits {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << ((bit + at) % 8);
                let checked = check(flipped);
                assert!(
                    checked.is_err(),
                    "{codec}: bit {bit} of byte {at} of {}",
                    bytes.len()
                );
            }
        }
    }
}

/// Checks that the readable content of `bytes` is a prefix of `content`. Returns it if it is complete.
fn never_wrong(bytes: &[u8], content: &[u8], what: &str) -> Option<Vec<u8>> {
    let Ok(stream) = Stream::from_source(Arc::new(bytes.to_vec()), &one_worker()) else {
        return None;
    };
    let reader = stream.content();
    let (read, _) = read_all(&reader, 1000);
    let (out, _) = decoded(&stream);
    for got in [&read, &out] {
        assert!(content.starts_with(got), "{what}: {} bytes", got.len());
    }
    // Reads after the end return nothing.
    let mut byte = [7];
    assert!(
        !matches!(reader.read_at(&mut byte, content.len() as u64), Ok(1)),
        "{what}"
    );
    Some(out)
}

#[test]
fn truncated_streams_return_complete_frames_and_then_an_error() {
    for codec in CODECS {
        let (content, bytes) = small(codec);
        let data_len = open(bytes.clone()).data_len().unwrap() as usize;
        for cut in 0..bytes.len() {
            let what = format!("{codec} cut at {cut} of {}", bytes.len());
            if codec == Codec::None && (1..8).contains(&(cut - data_len.min(cut))) {
                // A prefix of the magic, which is not distinguishable from content.
                continue;
            }
            if codec != Codec::None && cut < 4 {
                // Less than a magic: uncompressed bytes.
                continue;
            }
            let out = never_wrong(&bytes[..cut], &content, &what);
            if cut > data_len + 16 || cut > data_len && codec == Codec::Gzip {
                // All frames are intact, and the missing seal is detected.
                let opened = Stream::from_source(Arc::new(bytes[..cut].to_vec()), &one_worker());
                assert!(opened.is_ok(), "{what}: {:?}", opened.err());
                assert_eq!(out.unwrap().len(), content.len(), "{what}");
                assert!(check(bytes[..cut].to_vec()).is_err(), "{what}");
            }
            if codec == Codec::Gzip && cut < data_len && cut > 24 {
                assert!(check(bytes[..cut].to_vec()).is_err(), "{what}");
            }
        }
    }
}

#[test]
fn a_truncated_stream_returns_complete_frames_and_an_error_for_the_next() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let content = content(40 * 4096, 22);
        let bytes = sealed(&content, &encoding(codec, FRAME, 2), ATTACHMENT);
        let frames = open(bytes.clone()).frames().unwrap().clone();
        let ninth = frames.get(9).unwrap();
        let cut = ninth.offset.midpoint(frames.get(10).unwrap().offset);
        let stream = open(bytes[..cut as usize].to_vec());
        let (out, end) = decoded(&stream);
        assert!(out == content[..9 * 4096]);
        let error = end.unwrap_err();
        let Error::Broken { region, offset, .. } = &error else {
            panic!("{error}");
        };
        let frame = match codec {
            Codec::Gzip => "gzip member 9",
            _ => "zstd frame 9",
        };
        assert_eq!(region, frame, "{error}");
        assert_eq!(*offset, ninth.offset);
        let (len, stopped) = stream.readable().unwrap();
        assert_eq!(len, 9 * 4096);
        assert!(matches!(stopped, Some(Error::Broken { offset, .. }) if offset == ninth.offset));
        let error = stream.content().read_at(&mut [0], 9 * 4096).unwrap_err();
        assert!(matches!(Error::in_io(&error), Some(Error::Broken { .. })));
        // Earlier frames can be read at random.
        let mut page = [0; 4096];
        stream.content().read_exact_at(&mut page, 8 * 4096).unwrap();
        assert!(page == content[8 * 4096..9 * 4096]);
    }
}

#[test]
fn a_damaged_index_is_rebuilt_and_the_attachment_is_kept() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (content, bytes) = small(codec);
        let data_len = open(bytes.clone()).data_len().unwrap() as usize;
        // Damage in the index, then in the header.
        let index = data_len + 16 + 72 + ATTACHMENT.len() + 5;
        let header = data_len + 16 + 20;
        for (at, kind) in [(index, StreamKind::Sealed), (header, StreamKind::Foreign)] {
            let mut broken = bytes.clone();
            broken[at] ^= 4;
            let stream = open(broken);
            assert_eq!(stream.kind(), kind, "{codec} {at}");
            assert!(stream.seal_damage().is_some());
            let attachment = (kind == StreamKind::Sealed).then_some(ATTACHMENT);
            assert_eq!(stream.attachment(), attachment);
            assert_eq!(stream.frames().unwrap().count(), 2);
            let (out, end) = decoded(&stream);
            end.unwrap();
            assert!(out == content);
        }
    }
}

#[test]
fn a_seal_after_other_data_is_damaged() {
    for codec in CODECS {
        let (_, ours) = small(codec);
        let data_len = open(ours.clone()).data_len().unwrap() as usize;
        let other = content(2 * FRAME as usize, 99);
        let (mut bytes, _) = stored(&other, &encoding(codec, FRAME, 1), Shape::Frames);
        let same_len = bytes.len() == data_len;
        bytes.extend_from_slice(&ours[data_len..]);
        let stream = Stream::from_source(Arc::new(bytes), &one_worker()).unwrap();
        let (out, end) = decoded(&stream);
        assert!(other.starts_with(&out), "{codec}");
        if same_len {
            assert!(end.is_err(), "{codec}");
        } else {
            assert!(stream.seal_damage().is_some(), "{codec}");
        }
    }
}

#[test]
fn a_damaged_frame_is_an_error_and_others_can_be_read() {
    for codec in CODECS {
        let content = content(40 * 4096, 23);
        let mut bytes = sealed(&content, &encoding(codec, FRAME, 2), ATTACHMENT);
        let frame = open(bytes.clone()).frames().unwrap().get(17).unwrap();
        bytes[frame.offset as usize + frame.entry.stored_len as usize / 2] ^= 0x10;
        let stream = open(bytes);
        let (out, end) = decoded(&stream);
        assert!(out == content[..17 * 4096]);
        match end.unwrap_err() {
            Error::Broken { region, offset, .. } => {
                assert!(region.ends_with(" 17"), "{region}");
                assert_eq!(offset, frame.offset);
            }
            other => panic!("{other}"),
        }
        let mut page = [0; 4096];
        stream
            .content()
            .read_exact_at(&mut page, 18 * 4096)
            .unwrap();
        assert!(page == content[18 * 4096..19 * 4096]);
        assert!(
            stream
                .content()
                .read_exact_at(&mut page, 17 * 4096 + 5)
                .is_err()
        );
    }
}

/// Random damage: bytes changed, ranges moved, removed or inserted.
#[test]
fn random_damage_never_gives_wrong_content() {
    let seed = 0x11fe_c04e;
    let mut numbers = Random::new(seed);
    for codec in CODECS {
        let content = content(9 * 4096, 24);
        let bytes = sealed(&content, &encoding(codec, FRAME, 1), ATTACHMENT);
        let data_len = open(bytes.clone()).data_len().unwrap();
        for round in 0..600 {
            let mut broken = bytes.clone();
            for _ in 0..=numbers.below(3) {
                // Half of the damage is in the seal.
                let len = broken.len() as u64;
                let from = if numbers.below(2) == 0 {
                    data_len.min(len - 1)
                } else {
                    0
                };
                let at = (from + numbers.below(len - from)) as usize;
                match numbers.below(4) {
                    0 => broken[at] = numbers.next() as u8,
                    1 => broken[at] ^= 1 << numbers.below(8),
                    2 => {
                        let run = (numbers.below(64) as usize).min(broken.len() - at - 1);
                        broken.drain(at..at + run);
                    }
                    _ => {
                        let run = (numbers.below(64) as usize).min(broken.len() - at);
                        let copied = broken[at..at + run].to_vec();
                        let to = numbers.below(broken.len() as u64) as usize;
                        broken.splice(to..to, copied);
                    }
                }
            }
            if broken == bytes {
                continue;
            }
            let what = format!("{codec}, seed {seed:#x}, round {round}");
            let Ok(stream) = Stream::from_source(Arc::new(broken), &one_worker()) else {
                continue;
            };
            if codec == Codec::None && stream.kind() == StreamKind::Plain {
                // Without a remnant of a seal, the stream is an unsealed one.
                continue;
            }
            let checked = stream.check(&NoProgress);
            let (out, end) = decoded(&stream);
            let intact = out == content;
            // The frames may be intact and the seal lost without a remnant; the content is right.
            assert!(checked.is_err() || intact, "{what}: {checked:?}");
            if end.is_ok() && stream.seal_damage().is_none() {
                assert!(intact, "{what}");
            }
        }
    }
}

#[test]
fn random_bytes_do_not_panic() {
    let seed = 0xd1ce;
    let mut numbers = Random::new(seed);
    let heads: [&[u8]; 5] = [
        &[0x28, 0xb5, 0x2f, 0xfd],
        &[0x1f, 0x8b, 8, 0],
        &[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, 12, 0, b'L', b'C', 8, 0],
        &[0x5e, 0x2a, 0x4d, 0x18],
        &[0x28, 0xb5, 0x2f, 0xfd, 0xe4],
    ];
    for round in 0..3000 {
        let mut bytes = heads[round % heads.len()].to_vec();
        for _ in 0..numbers.below(200) {
            bytes.push(numbers.next() as u8 & if numbers.below(2) == 0 { 0xff } else { 3 });
        }
        let Ok(stream) = Stream::from_source(Arc::new(bytes), &one_worker()) else {
            continue;
        };
        let _ = read_all(&stream.content(), 4096);
        let _ = decoded(&stream);
        let _ = stream.readable();
    }
}

#[test]
fn a_frame_that_says_it_is_2_to_the_60_is_refused_without_memory() {
    // Single segment, content size of 8 bytes.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe4];
    bytes.extend((1_u64 << 60).to_le_bytes());
    bytes.extend([3, 0, 0, 1, 2, 3, 4]);
    let stream = open(bytes);
    let (out, end) = decoded(&stream);
    assert!(out.is_empty());
    assert!(matches!(end, Err(Error::Memory { needed, .. }) if needed == 1 << 60));
    let error = stream.content().read_at(&mut [0], 0).unwrap_err();
    assert!(matches!(Error::in_io(&error), Some(Error::Memory { .. })));
}

#[test]
fn a_bomb_is_decoded_in_bounded_pieces() {
    // 256 MiB of zeros in one frame or member.
    let zeros = Zeros(256 << 20);
    for codec in [Codec::Zstd, Codec::Gzip] {
        let mut bytes = Vec::new();
        let encoding = encoding(codec, 1 << 20, 2);
        encode_at(&zeros, &encoding, Shape::Single, &mut bytes, &NoProgress).unwrap();
        assert!(bytes.len() < 1 << 20);
        let stream = open(bytes);
        let mut largest = 0;
        let len = stream
            .decode(
                &mut |_, piece| {
                    largest = largest.max(piece.len());
                    Ok(())
                },
                &NoProgress,
            )
            .unwrap();
        assert_eq!(len, 256 << 20);
        assert!(largest <= 1 << 20);
    }
}

struct Zeros(u64);

impl ReadAt for Zeros {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let n = buf.len().min(self.0.saturating_sub(offset) as usize);
        buf[..n].fill(0);
        Ok(n)
    }
}

#[test]
fn bytes_after_a_foreign_stream_are_reported_and_padding_is_not() {
    let content = content(300_000, 25);
    for codec in [Codec::Gzip, Codec::Zstd] {
        for shape in [Shape::Single, Shape::Frames] {
            let (bytes, _) = stored(&content, &encoding(codec, FRAME, 2), shape);
            let mut padded = bytes.clone();
            padded.resize(bytes.len().next_multiple_of(4096), 0);
            let stream = open(padded);
            let (out, end) = decoded(&stream);
            if (codec, shape) != (Codec::Gzip, Shape::Frames) {
                stream.check(&NoProgress).unwrap();
            }
            end.unwrap();
            assert!(out == content, "{codec} {shape:?}");
            let mut dirty = bytes.clone();
            dirty.extend(b"something else");
            let stream = open(dirty);
            let (out, end) = decoded(&stream);
            assert!(out == content);
            let error = match end {
                Ok(_) => stream.trailing().unwrap().again(),
                // Members with stated lengths have lost their seal, which is an error.
                Err(error) => error,
            };
            assert!(
                matches!(error, Error::Broken { offset, .. } if offset == bytes.len() as u64),
                "{error}"
            );
        }
    }
}

/// Counts reads.
struct Counting(Vec<u8>, std::sync::atomic::AtomicU64);

impl ReadAt for Counting {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }
}

#[test]
fn opening_a_long_frame_or_a_seal_needs_few_reads() {
    let content = content(30_000_000, 26);
    for codec in CODECS {
        let encoding = encoding(codec, 1 << 20, 2);
        let single = stored(&content, &encoding, Shape::Single).0;
        for bytes in [single, sealed(&content, &encoding, ATTACHMENT)] {
            let source = Arc::new(Counting(bytes, 0.into()));
            Stream::from_source(source.clone(), &options()).unwrap();
            // Uncompressed: the search for a seal reads each page of the last two MiB.
            let most = if codec == Codec::None { 600 } else { 40 };
            let reads = source.1.load(std::sync::atomic::Ordering::Relaxed);
            assert!(reads < most, "{codec}: {reads}");
        }
    }
}

#[test]
fn an_attachment_beyond_the_limit_is_refused() {
    let (mut bytes, stored) = stored(b"x", &encoding(Codec::Zstd, FRAME, 1), Shape::Frames);
    let error = write_seal(&stored, &vec![0; (1 << 20) + 1], &mut bytes);
    assert!(matches!(error, Err(Error::Limit { .. })));
}

#[test]
fn a_single_stream_cannot_be_sealed() {
    let (mut bytes, stored) = stored(b"x", &encoding(Codec::Zstd, FRAME, 1), Shape::Single);
    let error = write_seal(&stored, &[], &mut bytes);
    assert!(matches!(error, Err(Error::Options(_))));
}

#[test]
fn a_stream_with_a_truncated_seal_has_all_of_its_content() {
    let content = content(300_000, 9);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let whole = sealed(&content, &encoding(codec, 65536, 1), b"what belongs to it");
        let start = usize::try_from(open(whole.clone()).data_len().unwrap()).unwrap();
        for cut in start + 14..whole.len() {
            let stream = open(whole[..cut].to_vec());
            assert!(stream.seal_damage().is_some(), "{codec}, cut at {cut}");
            assert_eq!(stream.known_len(), Some(300_000), "{codec}, cut at {cut}");
            assert_eq!(
                stream.content().size().unwrap(),
                300_000,
                "{codec}, cut at {cut}"
            );
            if cut % 16 == 0 {
                assert!(decoded(&stream).0 == content, "{codec}, cut at {cut}");
            }
        }
    }
}

#[test]
fn bytes_after_a_complete_foreign_stream_are_trailing_and_not_an_error_of_its_content() {
    let content = content(700_000, 41);
    for codec in [Codec::Gzip, Codec::Zstd] {
        for shape in [Shape::Single, Shape::Frames] {
            let (mut bytes, _) = stored(&content, &encoding(codec, 1 << 16, 1), shape);
            if codec == Codec::Gzip && shape == Shape::Frames {
                // Members with stated lengths have lost their seal.
                continue;
            }
            let end = bytes.len() as u64;
            bytes.extend(b"left over");
            let stream = open(bytes.clone());
            let (out, ended) = decoded(&stream);
            assert!(out == content && ended.is_ok(), "{codec} {shape:?}");
            let trailing = stream.trailing().unwrap();
            assert!(matches!(trailing, Error::Broken { offset, .. } if *offset == end));
            let stream = open(bytes.clone());
            assert_eq!(stream.content().size().unwrap(), content.len() as u64);
            assert!(stream.trailing().is_some());
            assert!(check(bytes).is_err(), "a check is of every byte");
        }
    }
}

/// A frame compressed with a window of 1 MiB that states 1 KiB. One-pass decoders accept it.
#[test]
fn a_frame_that_states_too_small_a_window_is_damaged_and_salvaged_completely() {
    let page = content(64 << 10, 5);
    let mut content = Vec::new();
    for number in 0..20_u8 {
        content.extend(&page);
        content.extend([number; 5000]);
    }
    let (mut bytes, _) = stored(&content, &encoding(Codec::Zstd, 1 << 20, 1), Shape::Single);
    assert_eq!(bytes[4] & 0b0010_0000, 0, "it has a window of its own");
    bytes[5] = 0;
    let (_, ended) = decoded(&open(bytes.clone()));
    assert!(matches!(ended, Err(Error::Broken { .. })));
    let found = salvage::Salvage::recover(Arc::new(bytes), &options(), &NoProgress).unwrap();
    let proof = salvage::Proof::Checksum;
    let whole = salvage::Piece {
        content: 0..content.len() as u64,
        proof,
    };
    assert_eq!(found.pieces(), [whole]);
    assert!(!found.damage().is_empty());
    let mut out = vec![0; content.len()];
    found.content().read_exact_at(&mut out, 0).unwrap();
    assert!(out == content);
}

/// A decoder may find damage long after the first wrong byte, at the latest by the checksum.
#[test]
fn a_damaged_foreign_frame_returns_no_content_and_a_truncated_one_does() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        for len in [700_000, 2_500_000] {
            let content = content(len, 43);
            let (sound, _) = stored(&content, &encoding(codec, 1 << 20, 1), Shape::Single);
            // The checksum is at the end of a zstd frame, and 4 bytes before the end of a gzip member.
            let checksum = sound.len() - if codec == Codec::Zstd { 1 } else { 5 };
            for at in [sound.len() / 2, checksum] {
                let mut bytes = sound.clone();
                bytes[at] ^= 1;
                let stream = open(bytes);
                if len < 1 << 20 {
                    // The stream is decoded to its end before the first read.
                    assert!(stream.content().read_at(&mut [0], 0).is_err(), "{codec}");
                    assert!(stream.known_damage().is_some(), "{codec}");
                }
                let (readable, damage) = stream.readable().unwrap();
                assert!(readable == 0 && damage.is_some(), "{codec}: {readable}");
                for at in [0, 4096, 600_000] {
                    assert!(stream.content().read_at(&mut [0], at).is_err(), "{codec}");
                }
            }
            let stream = open(sound[..sound.len() / 2].to_vec());
            let (readable, damage) = stream.readable().unwrap();
            assert!(readable > 0 && damage.is_some(), "{codec}: {readable}");
            let mut out = vec![0; readable as usize];
            stream.content().read_exact_at(&mut out, 0).unwrap();
            assert!(content.starts_with(&out), "{codec}");
        }
    }
}
