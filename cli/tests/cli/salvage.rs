//! `salvage`: a sound dump of what is left, nothing made up, and everything lost is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Run, machine, names, run};
use crate::schema;

/// A sealed dump of the tiny machine in small frames.
fn dump(dir: &Path, name: &str, codec: &str) -> PathBuf {
    let path = dir.join(name);
    let tiny = machine("tiny");
    let args = ["take", "-q", codec, "--frame-size", "64K", "--machine"].map(AsRef::as_ref);
    let files = [tiny.as_os_str(), "-o".as_ref(), path.as_os_str()];
    run(args.into_iter().chain(files)).expect(0);
    path
}

fn salvage(from: &Path, to: &Path, more: &[&str]) -> Run {
    let files = [from.as_os_str(), to.as_os_str()];
    let more = more.iter().map(AsRef::as_ref);
    run(["salvage".as_ref()].into_iter().chain(files).chain(more))
}

fn on(verb: &str, paths: &[&Path]) -> Run {
    run([verb.as_ref()]
        .into_iter()
        .chain(paths.iter().map(|p| p.as_os_str())))
}

#[test]
fn whole_dump_comes_out_the_same_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for codec in ["--none", "--gzip", "--zstd"] {
        let whole = dump(dir.path(), &format!("whole{codec}"), codec);
        let out = dir.path().join(format!("out{codec}.zst"));
        let told = salvage(&whole, &out, &["--json"]).expect(0);
        let told: Value = serde_json::from_slice(&told.out).unwrap();
        schema::check("salvage", &told);
        assert_eq!(
            (&told["whole"], &told["pages"]["lost"]),
            (&true.into(), &0.into())
        );
        on("compare", &[&whole, &out]).expect(0);
        on("verify", &[&out]).expect(0);
        assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn damaged_frame_becomes_holes_that_are_told_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    for codec in ["--none", "--gzip", "--zstd"] {
        let whole = dump(dir.path(), &format!("whole{codec}"), codec);
        let mut bytes = fs::read(&whole).unwrap();
        // A frame of pages: the sections of this dump end in the first half.
        let at = bytes.len() * 3 / 4;
        bytes[at] ^= 4;
        let broken = dir.path().join(format!("broken{codec}"));
        fs::write(&broken, &bytes).unwrap();
        on("verify", &[&broken]).expect(2);
        let out = dir.path().join(format!("out{codec}.zst"));
        let told = salvage(&broken, &out, &["--json", "--proven"]).expect(3);
        let told: Value = serde_json::from_slice(&told.out).unwrap();
        schema::check("salvage", &told);
        let pages = |name: &str| told["pages"][name].as_u64().unwrap();
        assert!((1..=17).contains(&pages("lost")), "{told:#}");
        assert_eq!(pages("kept") + pages("lost"), pages("promised"));
        assert_eq!(told["damage"].as_array().unwrap().len(), 1);
        let verified = on("verify", &[&out]).expect(3);
        assert!(
            verified.text().contains("SEAL-SALVAGED"),
            "{}",
            verified.text()
        );
        let answer = run([
            "compare".as_ref(),
            whole.as_os_str(),
            out.as_os_str(),
            "--json".as_ref(),
        ]);
        let answer: Value = serde_json::from_slice(&answer.expect(1).out).unwrap();
        assert_eq!(answer["pages_only_a"]["count"], told["pages"]["lost"]);
        assert_eq!(
            (
                &answer["pages_differ"]["count"],
                &answer["pages_only_b"]["count"]
            ),
            (&0.into(), &0.into())
        );
        // The first lost page cannot be read: it is a hole.
        let lost = told["pages"]["lost_ranges"][0]["start"].as_str().unwrap();
        run([
            "read".as_ref(),
            out.as_os_str(),
            lost.as_ref(),
            "16".as_ref(),
            "--phys".as_ref(),
        ])
        .expect(1);
    }
}

#[test]
fn people_are_told_and_an_existing_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump(dir.path(), "whole.zst", "--zstd");
    let bytes = fs::read(&whole).unwrap();
    let cut = dir.path().join("cut.zst");
    fs::write(&cut, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let out = dir.path().join("out.zst");
    let told = salvage(&cut, &out, &[]).expect(3);
    for word in [
        " pages kept, ",
        "  kerneldumpheader: from the payload",
        "  lost: 0x",
        "  damaged: ",
    ] {
        assert!(told.text().contains(word), "{word}: {}", told.text());
    }
    let before = fs::read(&out).unwrap();
    let refused = salvage(&cut, &out, &[]).expect(1);
    assert!(
        refused.err.contains("--force replaces it"),
        "{}",
        refused.err
    );
    assert_eq!(fs::read(&out).unwrap(), before);
    salvage(&cut, &out, &["--force", "-q"]).expect(3);
    assert_eq!(fs::read(&out).unwrap(), before);
}

#[test]
fn where_nothing_can_be_had_no_file_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump(dir.path(), "whole.zst", "--zstd");
    let mut bytes = fs::read(&whole).unwrap();
    bytes[10] ^= 1;
    // And the second copy of its content.
    for at in 0..bytes.len() - 8 {
        if bytes[at..].starts_with(b"LVCRPART") {
            bytes[at] ^= 1;
        }
    }
    let headless = dir.path().join("headless.zst");
    fs::write(&headless, &bytes).unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "no dump").unwrap();
    let out = dir.path().join("out.zst");
    let run = salvage(&headless, &out, &[]).expect(2);
    assert!(run.err.contains("minidump header"), "{}", run.err);
    salvage(&text, &out, &[]).expect(63);
    assert_eq!(names(dir.path()), ["headless.zst", "text", "whole.zst"]);
}
