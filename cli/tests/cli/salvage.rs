//! Tests of `salvage`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{MESSAGES, Run, machine, names, run, run_json};
use crate::schema;

/// Takes a sealed dump of the tiny machine with small frames.
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
fn intact_dump_is_copied_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    for codec in ["--none", "--gzip", "--zstd"] {
        let whole = dump(dir.path(), &format!("whole{codec}"), codec);
        let out = dir.path().join(format!("out{codec}.zst"));
        let printed = salvage(&whole, &out, &["--json"]).expect(0);
        let printed: Value = serde_json::from_slice(&printed.out).unwrap();
        schema::check("salvage", &printed);
        assert_eq!(
            (&printed["whole"], &printed["pages"]["lost"]),
            (&true.into(), &0.into())
        );
        on("compare", &[&whole, &out]).expect(0);
        on("verify", &[&out]).expect(0);
        assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn damaged_frame_becomes_holes_that_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    for codec in ["--none", "--gzip", "--zstd"] {
        let whole = dump(dir.path(), &format!("whole{codec}"), codec);
        let mut bytes = fs::read(&whole).unwrap();
        // A frame of pages: the sections of this dump are in the first half.
        let at = bytes.len() * 3 / 4;
        bytes[at] ^= 4;
        let broken = dir.path().join(format!("broken{codec}"));
        fs::write(&broken, &bytes).unwrap();
        on("verify", &[&broken]).expect(2);
        let out = dir.path().join(format!("out{codec}.zst"));
        let printed = salvage(&broken, &out, &["--json", "--proven"]).expect(3);
        let printed: Value = serde_json::from_slice(&printed.out).unwrap();
        schema::check("salvage", &printed);
        let pages = |name: &str| printed["pages"][name].as_u64().unwrap();
        assert!((1..=17).contains(&pages("lost")), "{printed:#}");
        assert_eq!(pages("kept") + pages("lost"), pages("promised"));
        assert_eq!(printed["damage"].as_array().unwrap().len(), 1);
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
        assert_eq!(answer["pages_only_a"]["count"], printed["pages"]["lost"]);
        assert_eq!(
            (
                &answer["pages_differ"]["count"],
                &answer["pages_only_b"]["count"]
            ),
            (&0.into(), &0.into())
        );
        // The first lost page is a hole and cannot be read.
        let lost = printed["pages"]["lost_ranges"][0]["start"]
            .as_str()
            .unwrap();
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
fn text_report_and_existing_output() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump(dir.path(), "whole.zst", "--zstd");
    let bytes = fs::read(&whole).unwrap();
    let cut = dir.path().join("cut.zst");
    fs::write(&cut, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let out = dir.path().join("out.zst");
    let printed = salvage(&cut, &out, &[]).expect(3);
    for word in [
        " pages kept, ",
        "  kerneldumpheader: from the payload",
        "  lost: 0x",
        "  damaged: ",
    ] {
        assert!(printed.text().contains(word), "{word}: {}", printed.text());
    }
    let before = fs::read(&out).unwrap();
    let refused = salvage(&cut, &out, &[]).expect(1);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    assert_eq!(fs::read(&out).unwrap(), before);
    salvage(&cut, &out, &["--force", "-q"]).expect(3);
    assert_eq!(fs::read(&out).unwrap(), before);
}

#[test]
fn unrecoverable_dump_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump(dir.path(), "whole.zst", "--zstd");
    let mut bytes = fs::read(&whole).unwrap();
    bytes[10] ^= 1;
    // Damage the second copy of its content too.
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
    let run = salvage(&headless, &out, &MESSAGES).expect(2);
    assert_eq!(run.error("broken")["region"], "minidump header");
    salvage(&text, &out, &[]).expect(63);
    assert_eq!(names(dir.path()), ["headless.zst", "text", "whole.zst"]);
}

/// The only frame of a stream states its content length, as `zstd FILE` writes it, and was truncated.
#[test]
fn content_that_no_checksum_proves_is_kept_and_every_reader_reports_it() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, cut, kept] = ["plain", "cut.zst", "kept.zst"].map(|name| dir.path().join(name));
    let tiny = machine("tiny");
    let args = ["take", "-q", "--none", "--container", "saved", "--machine"].map(AsRef::as_ref);
    let files = [tiny.as_os_str(), "-o".as_ref(), plain.as_os_str()];
    run(args.into_iter().chain(files)).expect(0);
    let stored = zstd::bulk::compress(&fs::read(&plain).unwrap(), 3).unwrap();
    fs::write(&cut, &stored[..stored.len() / 2]).unwrap();
    let printed = salvage(&cut, &kept, &["--json"]).expect(3);
    let printed: Value = serde_json::from_slice(&printed.out).unwrap();
    schema::check("salvage", &printed);
    let pages = &printed["pages"];
    assert!(pages["kept"].as_u64().unwrap() > 100, "{pages}");
    assert_eq!(pages["kept"], pages["unproven"]);
    let verified = on("verify", &[&kept]).expect(3);
    assert!(
        verified.text().contains("SEAL-UNPROVEN"),
        "{}",
        verified.text()
    );
    run(["verify".as_ref(), "--strict".as_ref(), kept.as_os_str()]).expect(2);
    let unproven = format!("{} pages ", pages["kept"]);
    for args in [&["info"][..], &["dmesg"], &["triage"], &["convert", "-f"]] {
        let (verb, more) = (args[0], &args[1..]);
        let out = dir.path().join("out.zst");
        let mut words: Vec<&std::ffi::OsStr> = vec![verb.as_ref()];
        words.extend(more.iter().map(|word| std::ffi::OsStr::new(*word)));
        words.push(kept.as_os_str());
        if verb == "convert" {
            words.push(out.as_os_str());
        }
        let run = run_json(words).expect(3);
        assert_eq!(run.count("unproven"), 1, "{verb}: {}", run.err);
        let messages = run.messages();
        let warning = messages.iter().find(|m| m["id"] == "unproven").unwrap();
        let message = warning["message"].as_str().unwrap();
        assert!(message.starts_with(&unproven), "{verb}: {message}");
    }
}
