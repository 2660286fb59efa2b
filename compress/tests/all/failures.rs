//! Failures of the system and cancellation: full disks, failing sources, failing sinks.

use crate::common;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use livecore_compress::*;
use livecore_tests::random::Random;

const FRAME: u32 = 64 << 10;

/// A writer that fails after so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let n = bytes.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Full {}

/// A source with a bad block.
struct Bad<'a>(&'a [u8], u64);

impl ReadAt for Bad<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if (offset..offset + buf.len() as u64).contains(&self.1) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.read_at(buf, offset)
    }
}

impl Read for Bad<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(buf, 0)?;
        self.0 = &self.0[n..];
        self.1 = self.1.saturating_sub(n as u64);
        Ok(n)
    }
}

/// Cancels after so many bytes of content.
struct Impatient(AtomicU64, u64);

impl Progress for Impatient {
    fn advance(&self, content: u64, _: u64) {
        self.0.fetch_add(content, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

const SHAPES: [Shape; 2] = [Shape::Frames, Shape::Single];

#[test]
fn a_full_disk_ends_encoding_with_its_own_error() {
    let content = content(3_000_000, 51);
    for codec in CODECS {
        for shape in SHAPES {
            let mut out = Full(100_000);
            let error = encode_at(
                &content,
                &encoding(codec, FRAME, 2),
                shape,
                &mut out,
                &NoProgress,
            );
            match error {
                Err(Error::Write(e)) => assert_eq!(e.kind(), io::ErrorKind::StorageFull),
                other => panic!("{codec} {shape:?}: {other:?}"),
            }
        }
        let (_, stored) = stored(&content, &encoding(codec, FRAME, 2), Shape::Frames);
        let error = write_seal(&stored, b"attachment", &mut Full(50));
        assert!(matches!(error, Err(Error::Write(_))), "{codec}");
    }
}

#[test]
fn a_source_that_fails_ends_encoding_with_its_own_error() {
    let content = content(3_000_000, 52);
    for codec in CODECS {
        for shape in SHAPES {
            let encoding = encoding(codec, FRAME, 2);
            let mut out = Vec::new();
            let at = encode_at(
                &Bad(&content, 2_000_000),
                &encoding,
                shape,
                &mut out,
                &NoProgress,
            );
            let mut source = Bad(&content, 2_000_000);
            let read = encode_read(&mut source, &encoding, shape, &mut out, &NoProgress);
            for error in [at, read] {
                match error {
                    Err(Error::Read(e)) => assert_eq!(e.kind(), io::ErrorKind::TimedOut),
                    other => panic!("{codec} {shape:?}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_source_shorter_than_its_size_is_an_error() {
    struct Short(Vec<u8>);
    impl ReadAt for Short {
        fn size(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64 + 1)
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.0.read_at(buf, offset)
        }
    }
    let source = Short(content(200_000, 53));
    let error = encode_at(
        &source,
        &encoding(Codec::Zstd, FRAME, 2),
        Shape::Frames,
        &mut Vec::new(),
        &NoProgress,
    );
    assert!(matches!(error, Err(Error::Read(e)) if e.kind() == io::ErrorKind::UnexpectedEof));
}

#[test]
fn cancelling_ends_encoding_and_decoding_early() {
    let content = content(6_000_000, 54);
    for codec in CODECS {
        for shape in SHAPES {
            let encoding = encoding(codec, FRAME, 2);
            let stop = Impatient(AtomicU64::new(0), 1_000_000);
            let mut out = Vec::new();
            let end = encode_at(&content, &encoding, shape, &mut out, &stop);
            assert!(
                matches!(end, Err(Error::Cancelled)),
                "{codec} {shape:?}: {end:?}"
            );
            assert!(stop.0.into_inner() < 4_000_000);

            let bytes = match shape {
                Shape::Frames => sealed(&content, &encoding, b""),
                Shape::Single => stored(&content, &encoding, shape).0,
            };
            let stop = Impatient(AtomicU64::new(0), 1_000_000);
            let end = open(bytes).decode(&mut |_, _| Ok(()), &stop);
            assert!(
                matches!(end, Err(Error::Cancelled)),
                "{codec} {shape:?}: {end:?}"
            );
            assert!(stop.0.into_inner() < 4_000_000);
        }
    }
}

#[test]
fn a_sink_that_fails_ends_decoding_with_its_own_error() {
    let content = content(3_000_000, 55);
    for codec in CODECS {
        for shape in SHAPES {
            let encoding = encoding(codec, FRAME, 2);
            let bytes = match shape {
                Shape::Frames => sealed(&content, &encoding, b""),
                Shape::Single => stored(&content, &encoding, shape).0,
            };
            let full = |at: u64, _: &[u8]| {
                if at < 500_000 {
                    return Ok(());
                }
                Err(Error::Write(io::ErrorKind::BrokenPipe.into()))
            };
            let end = open(bytes).decode(&mut { full }, &NoProgress);
            assert!(
                matches!(end, Err(Error::Write(_))),
                "{codec} {shape:?}: {end:?}"
            );
        }
    }
}

#[test]
fn the_length_of_a_decoded_foreign_stream_is_known_without_a_spool() {
    let content = content(3_500_000, 23);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (bytes, _) = stored(&content, &encoding(codec, 1 << 20, 1), Shape::Single);
        // A spool cannot be created there.
        let options = options().spool_dir("/nonexistent");
        let stream = Stream::from_source(Arc::new(bytes), &options).unwrap();
        assert_eq!(stream.known_len(), None);
        let len = stream.decode(&mut |_, _| Ok(()), &NoProgress).unwrap();
        assert_eq!(len, content.len() as u64);
        assert_eq!(stream.known_len(), Some(len));
        assert_eq!(stream.content().size().unwrap(), len);
        assert!(matches!(stream.readable(), Ok((end, None)) if end == len));
    }
}

/// Content that `finish` has decoded can be read later, unless the stream is damaged.
#[test]
fn finish_checks_the_content_read_from_a_foreign_stream() {
    let content = content(3_500_000, 24);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (bytes, _) = stored(&content, &encoding(codec, 1 << 20, 1), Shape::Single);
        // The checksum is at the end of a zstd frame, and 4 bytes before the end of a gzip member.
        for (damage, damaged) in [(0, false), (1, true)] {
            let mut bytes = bytes.clone();
            let at = bytes.len() - if codec == Codec::Zstd { 1 } else { 5 };
            bytes[at] ^= damage;
            let stream = open(bytes);
            // Nothing was read, so there is nothing to check.
            stream.finish(&NoProgress).unwrap();
            let mut buf = [0; 100];
            stream.content().read_exact_at(&mut buf, 1_500_000).unwrap();
            assert!(buf == content[1_500_000..1_500_100]);
            let finished = stream.finish(&NoProgress);
            assert_eq!(finished.is_err(), damaged, "{codec}: {finished:?}");
            let again = stream.content().read_exact_at(&mut buf, 100);
            // The frame is damaged, and its first wrong byte is unknown.
            assert_eq!(again.is_err(), damaged, "{codec}: {again:?}");
            assert!(damaged || buf == content[100..200]);
            for at in [1 << 20, 2_900_000, 3_499_900, 3_500_000] {
                let read = stream.content().read_at(&mut buf, at);
                assert_eq!(read.is_err(), damaged, "{at}");
                let rest = content.get(at as usize..).unwrap_or_default();
                assert!(damaged || rest.starts_with(&buf[..read.unwrap()]), "{at}");
            }
            let (len, error) = stream.readable().unwrap();
            assert_eq!(error.is_some(), damaged);
            assert_eq!(len, if damaged { 0 } else { content.len() as u64 });
        }
    }
}

#[test]
fn concurrent_readers_of_a_foreign_stream_get_the_same_bytes() {
    let content = content(9_000_000, 57);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (bytes, _) = stored(&content, &encoding(codec, 1 << 20, 2), Shape::Single);
        let stream = open(bytes);
        let reader = stream.content();
        std::thread::scope(|scope| {
            for seed in 1..=6 {
                let (reader, content) = (&reader, &content);
                scope.spawn(move || {
                    let mut numbers = Random::new(seed * 7919);
                    for _ in 0..60 {
                        let at = numbers.below(content.len() as u64 - 5000) as usize;
                        let mut buf = vec![0; numbers.below(5000) as usize];
                        reader.read_exact_at(&mut buf, at as u64).unwrap();
                        assert!(buf == content[at..at + buf.len()]);
                    }
                });
            }
        });
        assert_eq!(reader.size().unwrap(), content.len() as u64);
        assert_eq!(stream.known_len(), Some(content.len() as u64));
    }
}

/// Random damage to streams of other programs gives an error, or the right content.
#[test]
fn random_damage_to_foreign_streams_never_gives_wrong_content() {
    let seed = 0xbad_5eed;
    let mut numbers = Random::new(seed);
    let content = content(40_000, 58);
    for codec in [Codec::Gzip, Codec::Zstd] {
        for shape in SHAPES {
            let (bytes, _) = stored(&content, &encoding(codec, 16384, 1), shape);
            for round in 0..500 {
                let mut broken = bytes.clone();
                for _ in 0..=numbers.below(2) {
                    let at = numbers.below(broken.len() as u64) as usize;
                    match numbers.below(3) {
                        0 => broken[at] = numbers.next() as u8,
                        1 => broken[at] ^= 1 << numbers.below(8),
                        _ => broken.truncate(at + 1),
                    }
                }
                let Ok(stream) = Stream::from_source(Arc::new(broken), &options()) else {
                    continue;
                };
                if stream.kind() == StreamKind::Plain {
                    continue;
                }
                let (out, end) = decoded(&stream);
                let what = format!("{codec} {shape:?}, seed {seed:#x}, round {round}");
                // The content of complete frames, if the stream is cut between two frames.
                let whole = out == content || shape == Shape::Frames && content.starts_with(&out);
                assert!(end.is_err() || whole, "{what}: {} bytes", out.len());
            }
        }
    }
}
