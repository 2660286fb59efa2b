//! Encoding and decoding in all codecs, shapes and sizes, with deterministic output.

use crate::common;

use common::*;
use livecore_compress::*;
use livecore_tests::random::Random;

const FRAME: u32 = 64 << 10;

fn sizes() -> [usize; 9] {
    let frame = FRAME as usize;
    [
        0,
        1,
        4095,
        4096,
        frame - 1,
        frame,
        frame + 1,
        3 * frame,
        20 * frame + 12345,
    ]
}

#[test]
fn content_of_every_codec_shape_and_size_is_read_back() {
    for codec in CODECS {
        for shape in [Shape::Frames, Shape::Single] {
            for len in sizes() {
                let content = content(len, 7);
                let (bytes, _) = stored(&content, &encoding(codec, FRAME, 2), shape);
                let what = format!("{codec} {shape:?} {len}");
                if codec == Codec::None {
                    assert_eq!(bytes, content, "{what}");
                }
                if bytes.is_empty() {
                    continue;
                }
                let stream = open(bytes);
                let (out, end) = decoded(&stream);
                assert_eq!(end.unwrap(), len as u64, "{what}");
                assert!(out == content, "{what}");
                for step in [777, FRAME as usize, 300_000] {
                    let (out, end) = read_all(&stream.content(), step);
                    end.unwrap();
                    assert!(out == content, "{what} by {step}");
                }
                assert_eq!(stream.content().size().unwrap(), len as u64);
            }
        }
    }
}

#[test]
fn sealed_streams_have_an_index_and_an_attachment() {
    let attachments = [Vec::new(), content(512, 3), content(200_000, 4)];
    for codec in CODECS {
        for (len, attachment) in sizes().into_iter().zip(attachments.iter().cycle()) {
            let content = content(len, 11);
            let stream = open(sealed(&content, &encoding(codec, FRAME, 2), attachment));
            let what = format!("{codec} {len}");
            assert_eq!(stream.kind(), StreamKind::Sealed, "{what}");
            assert_eq!(stream.codec(), codec, "{what}");
            assert!(
                stream.seal_damage().is_none(),
                "{what}: {:?}",
                stream.seal_damage()
            );
            assert!(stream.attachment() == Some(attachment), "{what}");
            assert_eq!(stream.known_len(), Some(len as u64));
            assert_eq!(stream.check(&NoProgress).unwrap(), len as u64);
            let frames = stream.frames().unwrap();
            assert_eq!(frames.count(), (len as u64).div_ceil(FRAME.into()));
            assert_eq!(Some(frames.stored_len()), stream.data_len());
            let (out, end) = decoded(&stream);
            end.unwrap();
            assert!(out == content, "{what}");
            let mut numbers = Random::new(99);
            let reader = stream.content();
            for _ in 0..50 {
                let at = numbers.below(len as u64 + 10);
                let mut buf = vec![0; numbers.below(9000) as usize];
                let n = reader.read_full_at(&mut buf, at).unwrap();
                let from = (at as usize).min(len);
                assert_eq!(n, buf.len().min(len - from), "{what}");
                assert!(buf[..n] == content[from..from + n], "{what}");
            }
        }
    }
}

#[test]
fn output_does_not_depend_on_threads_or_on_how_the_source_is_read() {
    let content = content(3_000_000, 5);
    for codec in CODECS {
        for shape in [Shape::Frames, Shape::Single] {
            let (first, _) = stored(&content, &encoding(codec, FRAME, 1), shape);
            for n in [2, 3, 8] {
                let encoding = encoding(codec, FRAME, n);
                let (bytes, _) = stored(&content, &encoding, shape);
                assert!(bytes == first, "{codec} {shape:?} {n}");
                let mut out = Vec::new();
                // Short reads of one byte more than half a frame.
                let mut source = Trickle(&content);
                encode_read(&mut source, &encoding, shape, &mut out, &NoProgress).unwrap();
                assert!(out == first, "{codec} {shape:?} {n} read");
            }
        }
    }
}

struct Trickle<'a>(&'a [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let half = buf.len().min(buf.len() / 2 + 1);
        self.0.read(&mut buf[..half])
    }
}

#[test]
fn every_level_is_read_back_and_other_levels_are_errors() {
    let content = content(100_000, 6);
    for (codec, shape, levels) in [
        (Codec::Gzip, Shape::Frames, 1..=12),
        (Codec::Gzip, Shape::Single, 1..=9),
        (Codec::Zstd, Shape::Frames, -7..=22),
        (Codec::Zstd, Shape::Single, -7..=22),
    ] {
        for level in -8..=23 {
            let encoding = encoding(codec, FRAME, 1).level(level);
            if levels.contains(&level) {
                let (out, end) = decoded(&open(stored(&content, &encoding, shape).0));
                end.unwrap();
                assert!(out == content, "{codec} {shape:?} {level}");
            } else {
                let mut out = Vec::new();
                let error = encode_at(&content, &encoding, shape, &mut out, &NoProgress);
                assert!(matches!(error, Err(Error::Options(_))), "{codec} {level}");
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn invalid_frame_sizes_are_errors() {
    for size in [0, 1, 4095, 4097, (64 << 20) + 4096] {
        let error = encoding(Codec::Zstd, size, 1).check(Shape::Frames);
        assert!(matches!(error, Err(Error::Options(_))), "{size}");
    }
    encoding(Codec::Zstd, 64 << 20, 1)
        .check(Shape::Frames)
        .unwrap();
}

/// A source with known zeros, which must not be read.
struct Holes(Vec<u8>);

impl ReadAt for Holes {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let n = self.0.read_at(buf, offset)?;
        assert!(!is_zero(&buf[..n]), "zeros are known without reading");
        Ok(n)
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        is_zero(&self.0[offset as usize..(offset + len) as usize])
    }
}

#[test]
fn known_zeros_are_not_read_and_give_the_same_output() {
    let mut bytes = content(10 * FRAME as usize + 5000, 8);
    for frame in [0, 3, 4, 9] {
        let at = frame * FRAME as usize;
        bytes[at..at + FRAME as usize].fill(0);
    }
    bytes[10 * FRAME as usize..].fill(0);
    for codec in CODECS {
        for shape in [Shape::Frames, Shape::Single] {
            if (codec, shape) == (Codec::Zstd, Shape::Single) {
                continue;
            }
            let encoding = encoding(codec, FRAME, 2);
            let (first, _) = stored(&bytes, &encoding, shape);
            let mut out = Vec::new();
            encode_at(
                &Holes(bytes.clone()),
                &encoding,
                shape,
                &mut out,
                &NoProgress,
            )
            .unwrap();
            assert!(out == first, "{codec} {shape:?}");
        }
    }
}

#[test]
fn single_streams_begin_like_those_of_the_kernel() {
    let content = content(3 << 20, 9);
    let (gzip, _) = stored(&content, &encoding(Codec::Gzip, FRAME, 2), Shape::Single);
    assert_eq!(gzip[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let encoding = encoding(Codec::Zstd, FRAME, 2).level(6);
    let (zstd, _) = stored(&content, &encoding, Shape::Single);
    assert_eq!(zstd[..6], [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58]);
    // Exactly one frame.
    let frames: Vec<_> = frames::Frames::new(&zstd, Codec::Zstd, u64::MAX)
        .map(Result::unwrap)
        .collect();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].stored_len, zstd.len() as u64);
    assert_eq!(frames[0].content_len, None);
}

/// Counts the reads of each frame.
struct Counting(Vec<u8>, std::sync::Mutex<Vec<u64>>);

impl ReadAt for Counting {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.lock().unwrap().push(offset);
        self.0.read_at(buf, offset)
    }
}

#[test]
fn sequential_reading_decodes_each_frame_once() {
    let content = content(30 * FRAME as usize, 12);
    for codec in CODECS {
        for n in [1, 2, 4] {
            let bytes = sealed(&content, &encoding(codec, FRAME, 2), &[]);
            let source = std::sync::Arc::new(Counting(bytes, std::sync::Mutex::default()));
            let options = OpenOptions::new()
                .threads(threads(n))
                .memory(16 * 16 * u64::from(FRAME));
            let stream = Stream::from_source(source.clone(), &options).unwrap();
            source.1.lock().unwrap().clear();
            let (out, end) = read_all(&stream.content(), 4096);
            end.unwrap();
            assert!(out == content);
            let mut offsets = source.1.lock().unwrap().clone();
            assert_eq!(offsets.len(), 30, "{codec} {n}");
            offsets.sort_unstable();
            offsets.dedup();
            assert_eq!(offsets.len(), 30, "{codec} {n}");
        }
    }
}
