//! Foreign streams, read at any offset from restart points, and a cache of these.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::common;
use crate::kept::Kept;
use common::*;
use livecore_compress::*;
use livecore_tests::random::Random;

const LEN: usize = 40 << 20;

fn zstd_frame(content: &[u8], level: i32, window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn gzip_member(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Counts the bytes read of a file.
struct Counted(File, AtomicU64);

impl ReadAt for Counted {
    fn size(&self) -> std::io::Result<u64> {
        ReadAt::size(&self.0)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        ReadAt::read_at(&self.0, buf, offset)
    }

    fn modified(&self) -> Option<SystemTime> {
        self.0.modified()
    }
}

fn write(dir: &Path, stored: &[u8]) -> std::path::PathBuf {
    let path = dir.join("stream");
    fs::write(&path, stored).unwrap();
    path
}

/// Few decoded frames fit in memory, and there is no directory for a spool.
fn options(dir: &Path) -> OpenOptions {
    OpenOptions::new()
        .memory(16 << 20)
        .threads(threads(2))
        .spool_dir("/no/such/directory")
        .restart_cache(RestartCache {
            dir: dir.join("cache"),
            max_bytes: 64 << 20,
            min_content: 1 << 20,
        })
}

fn cached(dir: &Path) -> Vec<fs::DirEntry> {
    let entries = fs::read_dir(dir.join("cache")).into_iter().flatten();
    entries.map(Result::unwrap).collect()
}

fn read_anywhere(stream: &Stream, content: &[u8], seed: u64) {
    let source = stream.content();
    let mut random = Random::new(seed);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let mut random = Random::new(random.next() + thread);
            let source = &source;
            scope.spawn(move || {
                for _ in 0..25 {
                    let from = random.index(content.len());
                    let len = 1 + random.index(100_000).min(content.len() - from - 1);
                    let mut buf = vec![0; len];
                    source.read_exact_at(&mut buf, from as u64).unwrap();
                    assert!(
                        buf == content[from..from + len],
                        "seed {seed}: {from:#x} {len}"
                    );
                }
            });
        }
    });
}

#[test]
fn foreign_streams_are_read_at_any_offset_without_a_spool_and_open_again_from_the_cache() {
    let content = content(LEN, 71);
    let (a, b) = content.split_at(LEN / 3);
    let streams = [
        ("kernel", zstd_frame(&content, 6, 21)),
        ("small windows", zstd_frame(&content, 3, 15)),
        ("large windows", zstd_frame(&content, 1, 23)),
        (
            "frames",
            [zstd_frame(a, 3, 20), zstd_frame(b, -1, 21)].concat(),
        ),
        ("gzip", gzip_member(&content)),
        ("members", [gzip_member(a), gzip_member(b)].concat()),
    ];
    for (what, stored) in streams {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &stored);
        let stream = Stream::open(&path, &options(dir.path())).unwrap();
        assert_eq!(stream.kind(), StreamKind::Foreign, "{what}");
        assert_eq!(stream.known_len(), None, "{what}");
        read_anywhere(&stream, &content, 73);
        assert_eq!(stream.readable().unwrap().0, LEN as u64, "{what}");
        stream.finish(&NoProgress).unwrap();
        let files = cached(dir.path());
        let [file] = &files[..] else {
            panic!("{what}: {files:?}");
        };
        let found = file.metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(found.len() < LEN as u64 / 12, "{what}: {}", found.len());

        // The length is known at once, and the end of the content needs a part of the stream.
        let file = Counted(File::open(&path).unwrap(), AtomicU64::new(0));
        let file = Arc::new(file);
        let again = Stream::from_source(file.clone(), &options(dir.path())).unwrap();
        assert_eq!(again.known_len(), Some(LEN as u64), "{what}");
        let mut buf = vec![0; 4096];
        let at = LEN - 5000;
        again.content().read_exact_at(&mut buf, at as u64).unwrap();
        assert!(buf == content[at..at + 4096], "{what}");
        let read = file.1.load(Ordering::Relaxed);
        assert!(
            read < stored.len() as u64 * 9 / 10 + (1 << 20),
            "{what}: {read}"
        );
        read_anywhere(&again, &content, 79);
        assert_eq!(again.content().read_at(&mut buf, LEN as u64).unwrap(), 0);
        again.finish(&NoProgress).unwrap();
        assert_eq!(
            again.interruption().is_some(),
            stream.interruption().is_some()
        );
    }
}

#[test]
fn windows_above_8_mib_are_read_through_the_spool() {
    let content = content(80 << 20, 83);
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &zstd_frame(&content, 1, 25));
    let options = options(dir.path()).memory(64 << 20);
    let without = Stream::open(&path, &options).unwrap();
    let error = without.readable().unwrap_err();
    assert!(
        matches!(&error, Error::Write(e) if e.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
    let stream = Stream::open(&path, &options.spool_dir(dir.path())).unwrap();
    assert_eq!(stream.readable().unwrap().0, content.len() as u64);
    read_anywhere(&stream, &content, 89);
    assert!(cached(dir.path()).is_empty());
}

#[test]
fn a_changed_stream_has_other_restart_points() {
    let dir = tempfile::tempdir().unwrap();
    for seed in [91, 92] {
        let content = content(6 << 20, seed);
        let path = write(dir.path(), &zstd_frame(&content, 1, 17));
        let stream = Stream::open(&path, &options(dir.path())).unwrap();
        assert_eq!(stream.known_len(), None);
        stream.readable().unwrap();
        read_anywhere(&stream, &content, seed);
    }
    assert_eq!(cached(dir.path()).len(), 2);
    let cache = options(dir.path()).restart_cache.unwrap();
    assert_eq!(cache.clear().unwrap().0, 2);
    assert!(cached(dir.path()).is_empty());
}

#[test]
fn a_full_cache_loses_its_oldest_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    let mut newest = 0;
    for seed in 0..4 {
        let path = write(dir.path(), &gzip_member(&content(6 << 20, seed)));
        let stream = Stream::open(&path, &options).unwrap();
        stream.readable().unwrap();
        let files = cached(dir.path());
        let size = |file: &fs::DirEntry| file.metadata().unwrap().len();
        let sum: u64 = files.iter().map(size).sum();
        if seed == 0 {
            newest = sum;
            // Space for two.
            options.restart_cache.as_mut().unwrap().max_bytes = 2 * sum + sum / 2;
        }
        assert_eq!(files.len(), 2.min(seed as usize + 1), "{newest} {sum}");
        drop(stream);
        let again = Stream::open(&path, &options).unwrap();
        assert!(again.known_len().is_some());
    }
}

#[test]
fn truncated_and_damaged_streams_are_not_kept_and_answer_as_without_a_cache() {
    let content = content(12 << 20, 97);
    let dir = tempfile::tempdir().unwrap();
    for stored in [zstd_frame(&content, 6, 19), gzip_member(&content)] {
        let mut flipped = stored.clone();
        flipped[stored.len() / 2] ^= 0x10;
        let mut sum = stored.clone();
        let last = sum.len() - 3;
        sum[last] ^= 1;
        let cut = stored[..stored.len() - 1000].to_vec();
        for damaged in [flipped, sum, cut] {
            let path = write(dir.path(), &damaged);
            let stream = Stream::open(&path, &options(dir.path())).unwrap();
            let (len, error) = stream.readable().unwrap();
            let error = error.unwrap().to_string();
            let expected = stream.decode(&mut |_, _| Ok(()), &NoProgress).unwrap_err();
            assert_eq!(error, expected.to_string());
            let source = stream.content();
            let mut whole = vec![0; len as usize];
            source.read_exact_at(&mut whole, 0).unwrap();
            assert!(whole == content[..len as usize]);
            assert!(source.read_at(&mut [0; 1], len).is_err());
            assert!(cached(dir.path()).is_empty());
        }
    }
}

#[test]
fn damaged_files_of_the_cache_are_not_used_or_are_an_error() {
    let content = content(12 << 20, 101);
    let dir = tempfile::tempdir().unwrap();
    let stored = zstd_frame(&content, 1, 18);
    let stream = Kept::new(dir.path(), &stored, content);
    let good = stream.good();
    let read = |bytes: &[u8], what: &str| stream.read(bytes, what);
    let word = |at: usize| u64::from_le_bytes(*good[at..].first_chunk().unwrap());
    let tables = word(64) as usize;
    assert!(word(56) > 1, "no restart points");
    assert!(read(good, "not damaged"));
    let mut random = Random::new(103);
    for round in 0..30 {
        let mut bytes = good.to_vec();
        let at = match round % 3 {
            0 => random.index(88),
            1 => tables + random.index(good.len() - tables),
            _ => 88 + random.index(tables - 88),
        };
        bytes[at] ^= 1 << random.below(8);
        let used = read(&bytes, &format!("bit at {at:#x}"));
        assert_eq!(used, round % 3 == 2, "{at:#x}");
    }
    for len in [0, 87, 88, tables, good.len() - 1] {
        assert!(!read(&good[..len], &format!("{len} bytes")));
    }
    // A file with a valid checksum and any tables.
    for round in 0..30 {
        let mut bytes = good.to_vec();
        let from = tables + random.index(bytes.len() - tables - 8);
        let value = match round % 4 {
            0 => u64::MAX,
            1 => random.below(1 << 24),
            2 => 1 << random.below(64),
            _ => random.next(),
        };
        bytes[from..from + 8].copy_from_slice(&value.to_le_bytes());
        let digest = xxhash_rust::xxh64::xxh64(&bytes[tables..], 0);
        bytes[72..80].copy_from_slice(&digest.to_le_bytes());
        let digest = xxhash_rust::xxh64::xxh64(&bytes[..80], 0);
        bytes[80..88].copy_from_slice(&digest.to_le_bytes());
        read(&bytes, &format!("{value:#x} at {from:#x}"));
    }
    // Others may not read or write the file.
    let path = write(dir.path(), &stored);
    let options = options(dir.path());
    Stream::open(&path, &options).unwrap().readable().unwrap();
    for kept in cached(dir.path()) {
        fs::set_permissions(kept.path(), fs::Permissions::from_mode(0o640)).unwrap();
    }
    assert!(Stream::open(&path, &options).unwrap().known_len().is_none());
}
