//! The verbs that describe, copy or serve a dump report what it has lost. Every verb reports a
//! truncated stream.

use std::fs;
use std::path::{Path, PathBuf};

use livecore_compress::Codec;
use livecore_compress::frames::{FoundKind, Frames};

use crate::every_kind::Kinds;
use crate::harness::{Run, run_json, tool};
use crate::served::tiny;

fn on(verb: &[&str], dump: &Path, more: &[&str]) -> Run {
    let line = verb.iter().map(AsRef::as_ref);
    let more = more.iter().map(AsRef::as_ref);
    run_json(line.chain([dump.as_os_str()]).chain(more))
}

/// The payload of the tiny machine's dump, uncompressed.
fn payload(dir: &Path) -> Vec<u8> {
    let path = dir.join("payload");
    let to = path.to_str().unwrap();
    let args = ["convert", "-q", "--none", "--container", "saved"];
    on(&args, &tiny().dump, &[to]).expect(0);
    fs::read(path).unwrap()
}

#[test]
fn loss_that_verify_knows_is_reported_by_verbs_that_describe_copy_or_serve() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let kernel = tiny().kernel.to_str().unwrap();
    let cut = dir.path().join("cut");
    let full = fs::read(&Kinds::of(tiny()).kernels_own[0]).unwrap();
    for (kind, payload) in [("minidump", payload(dir.path())), ("full", full)] {
        fs::write(&cut, &payload[..payload.len() * 7 / 8]).unwrap();
        let stored = [
            ("as it is", fs::read(&cut).unwrap()),
            ("zstd", tool("zstd", &["-q", "-c"], &cut)),
            ("gzip", tool("gzip", &["-c"], &cut)),
        ];
        for (how, bytes) in stored {
            let path = dir.path().join(format!("{kind}-{how}"));
            fs::write(&path, bytes).unwrap();
            on(&["verify"], &path, &[]).expect(3);
            for (verb, more) in [
                (&["info"][..], &[][..]),
                (&["convert", "--force"], &[out]),
                (&["export", "--force"], &[out]),
                (&["serve", "--stdio", "--kernel", kernel], &[]),
                (&["kgdb", "--program", "true", "--kernel", kernel], &[]),
            ] {
                let what = format!("{} of a {kind}, {how}", verb[0]);
                let run = on(verb, &path, more);
                assert_eq!(run.code, 3, "{what}: {}", run.err);
                let of_bitmap = verb[0] == "info" && run.text().contains("bitmap");
                assert!(!of_bitmap || kind == "minidump", "{what}: {}", run.text());
                let lost = ["pages-missing", "memory-missing"].map(|id| run.count(id));
                let expected = if kind == "full" { [0, 1] } else { [1, 0] };
                assert_eq!(lost, expected, "{what}: {}", run.err);
            }
            let run = on(&["salvage", "--force"], &path, &[out]).expect(3);
            assert!(run.text().contains("  lost: 0x"), "{}", run.text());
        }
    }
}

/// Where the frames of a sealed dump end.
fn ends(dump: &[u8], codec: Codec) -> Vec<usize> {
    Frames::new(&dump.to_vec(), codec, dump.len() as u64)
        .map_while(Result::ok)
        .take_while(|found| found.kind == FoundKind::Data)
        .map(|found| (found.offset + found.stored_len) as usize)
        .collect()
}

/// A sealed dump of the tiny machine in small frames.
fn sealed(dir: &Path, codec: &str) -> PathBuf {
    let path = dir.join(codec);
    let to = path.to_str().unwrap();
    let args = ["convert", "-q", codec, "--frame-size", "64K"];
    on(&args, &tiny().dump, &[to]).expect(0);
    path
}

#[test]
fn stream_that_was_cut_is_broken_and_readers_of_what_is_left_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = tiny().kernel.to_str().unwrap();
    let out = dir.path().join("out");
    let cut = dir.path().join("cut");
    for (name, codec) in [("--zstd", Codec::Zstd), ("--gzip", Codec::Gzip)] {
        let bytes = fs::read(sealed(dir.path(), name)).unwrap();
        let ends = ends(&bytes, codec);
        let end = ends[ends.len() * 7 / 8];
        for (place, at) in [("after a frame", end), ("in a frame", end + 100)] {
            let what = format!("{name}, cut {place}");
            fs::write(&cut, &bytes[..at]).unwrap();
            on(&["verify"], &cut, &[]).expect(2);
            on(&["convert"], &cut, &[out.to_str().unwrap()]).expect(2);
            assert!(!out.exists(), "{what}");
            for verb in [&["info"][..], &["dmesg"]] {
                let run = on(verb, &cut, &[]);
                assert_eq!(run.code, 3, "{what}: {}: {}", verb[0], run.err);
                assert!(!run.out.is_empty(), "{what}: {}", verb[0]);
                let early = run.count("stream-ends-early");
                assert_eq!(early, 1, "{what}: {}: {}", verb[0], run.err);
            }
            for verb in ["ps", "threads", "triage"] {
                let run = on(&[verb, "--kernel", kernel], &cut, &[]);
                assert_ne!(run.code, 0, "{what}: {verb}");
                assert_ne!(run.count("stream-ends-early"), 0, "{what}: {}", run.err);
            }
        }
    }
}

/// gzip(1) decompresses such a file with a warning.
#[test]
fn trailing_bytes_of_a_gzip_dump_are_a_warning_of_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    payload(dir.path());
    let sound = path("sound.gz");
    let mut bytes = tool("gzip", &["-c"], &path("payload"));
    fs::write(&sound, &bytes).unwrap();
    bytes.extend(b"garbage");
    let dump = path("vmcore.1.gz");
    fs::write(&dump, bytes).unwrap();
    let kernel = tiny().kernel.to_str().unwrap();
    let out = path("out");
    let out = out.to_str().unwrap();
    let verbs: [(&[&str], &[&str]); 12] = [
        (&["info"], &[]),
        (&["convert", "--force"], &[out]),
        (&["convert", "--force", "--to", "elf", "-k", kernel], &[out]),
        (&["export", "--force"], &[out]),
        (&["read", "-k", kernel], &["hz"]),
        (&["dmesg"], &[]),
        (&["ps", "-k", kernel], &[]),
        (&["threads", "-k", kernel], &[]),
        (&["triage", "-k", kernel], &[]),
        (&["serve", "--stdio", "-k", kernel], &[]),
        (&["kgdb", "--program", "true", "-k", kernel], &[]),
        (&["salvage", "--force"], &[out]),
    ];
    for (verb, more) in verbs {
        let expected = on(verb, &sound, more).expect(0);
        let run = on(verb, &dump, more);
        assert_eq!(run.code, 3, "{verb:?}: {}", run.err);
        match verb[0] {
            // Its report has the damage.
            "salvage" => assert!(run.text().lines().count() > expected.text().lines().count()),
            _ => {
                assert_eq!(run.count("trailing-bytes"), 1, "{verb:?}: {}", run.err);
                let (text, expected) = (run.text(), expected.text());
                let name =
                    |text: &str| text.replace(sound.to_str().unwrap(), dump.to_str().unwrap());
                // These print the size of the file.
                let has_size = ["info", "triage"].contains(&verb[0]);
                assert!(has_size || name(text) == name(expected), "{verb:?}");
            }
        }
    }
    on(&["verify"], &dump, &[]).expect(3);
    // `compare` has its own codes.
    let compared = on(&["compare", "--json"], &dump, &[sound.to_str().unwrap()]).expect(0);
    assert_eq!(compared.count("finding"), 1, "{}", compared.err);
}
