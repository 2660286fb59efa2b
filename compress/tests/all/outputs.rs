//! Outputs that workers write at offsets.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::*;
use livecore_compress::*;

const FRAME: u32 = 64 << 10;

/// A file in memory that is full at `limit`.
struct Memory {
    bytes: Mutex<Vec<u8>>,
    written: u64,
    limit: u64,
    /// Number of writes at an offset.
    scattered: AtomicU64,
}

impl Memory {
    fn new(limit: u64) -> Self {
        Self {
            bytes: Mutex::new(Vec::new()),
            written: 0,
            limit,
            scattered: AtomicU64::new(0),
        }
    }

    fn put(&self, piece: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + piece.len() as u64;
        if end > self.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock().unwrap();
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0xEE);
        }
        bytes[offset as usize..end as usize].copy_from_slice(piece);
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Write for Memory {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.put(piece, self.written)?;
        self.written += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteAt for Memory {
    fn write_at(&self, piece: &[u8], offset: u64) -> io::Result<()> {
        self.scattered.fetch_add(1, Ordering::Relaxed);
        self.put(piece, self.written + offset)
    }
}

impl Output for Memory {
    fn at(&self) -> Option<&dyn WriteAt> {
        Some(self)
    }

    fn skip(&mut self, len: u64) {
        self.written += len;
    }
}

#[derive(Default)]
struct Sum(AtomicU64, AtomicU64);

impl Progress for Sum {
    fn advance(&self, content: u64, stored: u64) {
        self.0.fetch_add(content, Ordering::Relaxed);
        self.1.fetch_add(stored, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn frames_written_at_offsets_are_the_content_in_order() {
    let content = content(3_000_000, 71);
    let frames = content.len().div_ceil(FRAME as usize) as u64;
    for codec in CODECS {
        for workers in [1, 2, 5] {
            let stream = open(sealed(&content, &encoding(codec, FRAME, 2), b""));
            let options = options().threads(threads(workers));
            let bytes = sealed(&content, &encoding(codec, FRAME, 2), b"");
            let at = Stream::from_source(std::sync::Arc::new(bytes), &options).unwrap();
            let mut out = Memory::new(u64::MAX);
            out.write_all(b"head").unwrap();
            let progress = Sum::default();
            let len = at.decode_to(&mut out, &progress).unwrap();
            out.write_all(b"tail").unwrap();
            assert_eq!(len, content.len() as u64);
            assert_eq!(out.scattered.load(Ordering::Relaxed), frames);
            assert!(out.bytes() == [&b"head"[..], &content, b"tail"].concat());
            assert_eq!(progress.0.into_inner(), len);
            let stored = stream.frames().unwrap().stored_len();
            assert_eq!(progress.1.into_inner(), stored, "{codec}");
            // In order, for an output without offsets.
            let mut out = Vec::new();
            stream.decode_to(&mut out, &NoProgress).unwrap();
            assert!(out == content);
        }
    }
}

#[test]
fn encoding_at_offsets_gives_the_same_bytes() {
    let content = content(3_000_000, 72);
    for codec in CODECS {
        for shape in [Shape::Frames, Shape::Single] {
            let (expected, _) = stored(&content, &encoding(codec, FRAME, 2), shape);
            for sequential in [false, true] {
                let mut out = Memory::new(u64::MAX);
                let progress = Sum::default();
                let encoding = encoding(codec, FRAME, 3);
                let mut slice = &content[..];
                let stored = match sequential {
                    true => encode_read(&mut slice, &encoding, shape, &mut out, &progress),
                    false => encode_at(&content, &encoding, shape, &mut out, &progress),
                };
                let stored = stored.unwrap();
                assert!(out.bytes() == expected, "{codec} {shape:?}");
                assert_eq!(out.written, stored.stored_len);
                assert_eq!(progress.0.into_inner(), stored.content_len);
                assert_eq!(
                    progress.1.into_inner(),
                    stored.stored_len - unreported(codec, shape)
                );
                // The length of a compressed frame is not known before it is compressed.
                let scattered = out.scattered.load(Ordering::Relaxed) > 0;
                assert_eq!(scattered, codec == Codec::None, "{shape:?}");
            }
        }
    }
}

/// Bytes of a single member that belong to no content: its header and its end.
fn unreported(codec: Codec, shape: Shape) -> u64 {
    match (codec, shape) {
        (Codec::Gzip, Shape::Single) => 10 + 2 + 8,
        _ => 0,
    }
}

#[test]
fn a_full_disk_and_a_damaged_frame_are_distinct_errors() {
    let content = content(3_000_000, 73);
    for codec in CODECS {
        let mut bytes = sealed(&content, &encoding(codec, FRAME, 2), b"");
        let full = open(bytes.clone()).decode_to(&mut Memory::new(1 << 20), &NoProgress);
        let Err(Error::Write(error)) = full else {
            panic!("{codec}: {full:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let frame = open(bytes.clone()).frames().unwrap().get(20).unwrap();
        bytes[frame.offset as usize + 100] ^= 0xFF;
        let (_, ordered) = decoded(&open(bytes.clone()));
        let scattered = open(bytes).decode_to(&mut Memory::new(u64::MAX), &NoProgress);
        assert_eq!(
            ordered.unwrap_err().to_string(),
            scattered.unwrap_err().to_string()
        );
    }
}
