//! Interoperation with other programs: they read livecore's streams, and livecore reads theirs.
//!
//! A program that is not installed is reported and skipped; with `LIVECORE_REQUIRE_PEERS` it is a
//! failure.

use crate::common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::*;
use livecore_compress::*;

const FRAME: u32 = 64 << 10;

/// The output of `program` for `input`; `None` if it is not installed.
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let required = std::env::var_os("LIVECORE_REQUIRE_PEERS").is_some();
            assert!(!required, "{program}: {error}");
            let note = format!("skipped: {program}: {error}\n");
            std::io::stderr().write_all(note.as_bytes()).unwrap();
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        output.status
    );
    Some(output.stdout)
}

const PYTHON_GZIP: &str =
    "import sys, gzip; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";

#[test]
fn other_programs_decompress_sealed_streams() {
    let attachment = content(150_000, 1);
    for len in [0, 1, 1_000_000] {
        let content = content(len, 31);
        for shape in [Shape::Frames, Shape::Single] {
            for (codec, tools) in [
                (
                    Codec::Zstd,
                    vec![("zstd", vec!["-dcq"]), ("pzstd", vec!["-dcq"])],
                ),
                (
                    Codec::Gzip,
                    vec![
                        ("gzip", vec!["-dc"]),
                        ("pigz", vec!["-dc"]),
                        ("bgzip", vec!["-dc"]),
                        ("python3", vec!["-c", PYTHON_GZIP]),
                    ],
                ),
            ] {
                let encoding = encoding(codec, FRAME, 2);
                let bytes = match shape {
                    Shape::Frames => sealed(&content, &encoding, &attachment),
                    Shape::Single => stored(&content, &encoding, shape).0,
                };
                for (tool, arguments) in tools {
                    if let Some(out) = piped(tool, &arguments, &bytes) {
                        assert!(out == content, "{tool} {shape:?} {len}: {}", out.len());
                    }
                }
            }
        }
    }
}

#[test]
fn other_programs_accept_sealed_streams_in_test_mode() {
    let content = content(700_000, 32);
    for (codec, tool) in [(Codec::Zstd, "zstd"), (Codec::Gzip, "gzip")] {
        let encoding = encoding(codec, FRAME, 2);
        piped(tool, &["-tq"], &sealed(&content, &encoding, b"attachment"));
        piped(
            tool,
            &["-tq"],
            &stored(&content, &encoding, Shape::Single).0,
        );
    }
}

#[test]
fn streams_of_other_programs_can_be_read() {
    let content = content(5_000_000, 33);
    for (tool, arguments, indexed) in [
        ("zstd", vec!["-cq", "-3"], false),
        ("zstd", vec!["-cq", "-1", "-T2", "--no-check"], false),
        ("zstd", vec!["-cq", "-19", "--long=27"], false),
        ("pzstd", vec!["-cq", "-p", "2"], false),
        ("gzip", vec!["-c"], false),
        ("gzip", vec!["-c1"], false),
        ("pigz", vec!["-c", "-p", "2"], false),
        ("bgzip", vec!["-c"], true),
    ] {
        let Some(bytes) = piped(tool, &arguments, &content) else {
            continue;
        };
        let what = format!("{tool} {arguments:?}");
        // Alone, concatenated, and with padding.
        let twice = [bytes.as_slice(), bytes.as_slice()].concat();
        let mut padded = bytes.clone();
        padded.resize(bytes.len() + 3000, 0);
        for (stored, times) in [(bytes, 1), (twice, 2), (padded, 1)] {
            let stream = open(stored);
            assert_eq!(stream.kind(), StreamKind::Foreign, "{what}");
            assert!(!indexed || stream.frames().is_some(), "{what}");
            let (out, end) = decoded(&stream);
            end.unwrap();
            assert!(out == content.repeat(times), "{what}");
            let reader = stream.content();
            let mut page = [0; 4096];
            for at in [0, 4_000_000, 100, 2_500_000] {
                reader.read_exact_at(&mut page, at).unwrap();
                assert!(page == content[at as usize..at as usize + 4096], "{what}");
            }
            assert_eq!(reader.size().unwrap(), (content.len() * times) as u64);
            stream.check(&NoProgress).unwrap();
        }
    }
}

#[test]
fn truncated_foreign_streams_return_their_beginning() {
    let content = content(3_000_000, 34);
    for (codec, level) in [(Codec::Gzip, 6), (Codec::Zstd, 3)] {
        let encoding = encoding(codec, 1 << 20, 1).level(level);
        let (bytes, _) = stored(&content, &encoding, Shape::Single);
        let stream = open(bytes[..bytes.len() / 2].to_vec());
        let (out, end) = decoded(&stream);
        assert!(end.is_err());
        assert!(
            out.len() > 500_000 && content.starts_with(&out),
            "{}",
            out.len()
        );
        let (read, end) = read_all(&stream.content(), 5000);
        assert!(end.is_err());
        assert!(read == out);
        assert_eq!(stream.readable().unwrap().0, out.len() as u64);
        assert!(stream.check(&NoProgress).is_err());
    }
}
