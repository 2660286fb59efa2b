//! Tests of `compare`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{MESSAGES, Run, golden, machine, run};
use crate::schema;

fn take(dir: &Path, name: &str, codec: &str, container: &str) -> PathBuf {
    let path = dir.join(name);
    let tiny = machine("tiny");
    let args = ["take", "-q", codec, "--container", container, "--machine"].map(AsRef::as_ref);
    let files = [tiny.as_os_str(), "-o".as_ref(), path.as_os_str()];
    run(args.into_iter().chain(files)).expect(0);
    path
}

fn compare(a: &Path, b: &Path, more: &[&str]) -> Run {
    let files = [a.as_os_str(), b.as_os_str()];
    let more = more.iter().map(AsRef::as_ref);
    run(["compare".as_ref()].into_iter().chain(files).chain(more))
}

/// The JSON output, checked against its schema.
#[track_caller]
fn answer(a: &Path, b: &Path, more: &[&str], code: i32) -> Value {
    let more: Vec<_> = more.iter().copied().chain(["--json"]).collect();
    let answer = compare(a, b, &more).expect(code);
    let answer: Value = serde_json::from_slice(&answer.out).unwrap();
    schema::check("compare", &answer);
    assert_eq!(answer["exit_code"], code);
    answer
}

#[test]
fn container_and_codec_make_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let first = take(dir.path(), "first", "--none", "raw");
    let pages = answer(&first, &first, &[], 0)["pages_same"].as_u64();
    assert!(pages.is_some_and(|n| n > 100));
    for (name, codec, container) in [
        ("a", "--none", "sealed"),
        ("b", "--gzip", "raw"),
        ("c", "--zstd", "sealed"),
    ] {
        let other = take(dir.path(), name, codec, container);
        let found = answer(&first, &other, &["--strict"], 0);
        assert_eq!(found["answer"], "same", "{found:#}");
        assert_eq!(found["pages_same"].as_u64(), pages);
    }
    // A saved file has no header, which counts only with --strict.
    let saved = take(dir.path(), "saved", "--zstd", "saved");
    let found = answer(&first, &saved, &[], 0);
    assert_eq!(found["headers"][0]["what"], "kerneldumpheader");
    assert_eq!(answer(&first, &saved, &["--strict"], 1)["answer"], "differ");
}

#[test]
fn differing_byte_is_reported_with_its_symbol() {
    let dir = tempfile::tempdir().unwrap();
    let first = take(dir.path(), "first", "--none", "saved");
    let made = dir.path().join("machine");
    let tiny = machine("tiny");
    let args = ["synth".as_ref(), tiny.as_os_str(), "--out".as_ref()];
    run(args.into_iter().chain([made.as_os_str()])).expect(0);
    let kernel = made.join("kernel");
    // The program itself finds the offset of `version` in the dump. Reading a changed byte back
    // shows that the offset is correct.
    let read = |path: &Path, symbol: &str| {
        let args = ["read".as_ref(), path.as_os_str(), symbol.as_ref()];
        let more = [
            "4".as_ref(),
            "--json".as_ref(),
            "--kernel".as_ref(),
            kernel.as_os_str(),
        ];
        let answer = run(args.into_iter().chain(more)).expect(0);
        serde_json::from_slice::<Value>(&answer.out).unwrap()
    };
    let before = read(&first, "version");
    let physical = before["physical"].as_str().unwrap().to_string();
    let mut bytes = fs::read(&first).unwrap();
    let text = b"FreeBSD 14.0";
    let places: Vec<_> = (0..bytes.len() - text.len())
        .filter(|i| bytes[*i..].starts_with(text))
        .collect();
    let second = dir.path().join("second");
    for at in places {
        bytes[at] = b'X';
        fs::write(&second, &bytes).unwrap();
        bytes[at] = b'F';
        let found = answer(&first, &second, &["--kernel", kernel.to_str().unwrap()], 1);
        let Some(page) = found["differences"].get(0) else {
            continue;
        };
        let (pa, offset) = (
            page["pa"].as_str().unwrap(),
            page["offset"].as_u64().unwrap(),
        );
        let pa = u64::from_str_radix(&pa[2..], 16).unwrap() + offset;
        if format!("{pa:#x}") == physical {
            let symbol = page["symbol"].as_str().unwrap();
            assert!(symbol.ends_with(" version"), "{symbol}");
            assert_eq!(
                (
                    &page["a"].as_str().unwrap()[..2],
                    &page["b"].as_str().unwrap()[..2]
                ),
                ("46", "58")
            );
            // Near the dumps the kernel is found.
            fs::copy(&kernel, dir.path().join("kernel")).unwrap();
            assert_eq!(answer(&first, &second, &[], 1)["differences"][0], *page);
            let near = compare(&first, &second, &MESSAGES).expect(1);
            assert_eq!(near.count("kernel-used"), 1, "{}", near.err);
            return;
        }
    }
    panic!("no byte of the dump is the first of `version`");
}

#[test]
fn limit_restricts_the_listed_pages_and_not_their_count() {
    let dir = tempfile::tempdir().unwrap();
    let first = take(dir.path(), "first", "--none", "saved");
    let mut bytes = fs::read(&first).unwrap();
    let len = bytes.len();
    // Every second one of the last twenty pages.
    for page in (0..20).step_by(2) {
        bytes[len - 1 - page * 4096] ^= 1;
    }
    let second = dir.path().join("second");
    fs::write(&second, &bytes).unwrap();
    let found = answer(&first, &second, &["--limit", "3"], 1);
    assert_eq!(found["differences"].as_array().unwrap().len(), 3);
    assert_eq!(found["pages_differ"]["count"], 10);
    let found = answer(&first, &second, &["--limit", "0"], 1);
    assert_eq!(found["differences"].as_array().unwrap().len(), 0);
    assert_eq!(
        (
            &found["pages_differ"]["count"],
            &found["pages_differ"]["shown"]
        ),
        (&10.into(), &0.into())
    );
    let args = [
        "compare".as_ref(),
        first.as_os_str(),
        second.as_os_str(),
        "--limit=0".as_ref(),
    ];
    let text = run(args).expect(1);
    let text = text.text().replace(dir.path().to_str().unwrap(), "DIR");
    golden("compare/limit-0.txt", &text);
}

#[test]
fn inputs_that_cannot_be_compared_exit_with_4() {
    let dir = tempfile::tempdir().unwrap();
    let whole = take(dir.path(), "whole.zst", "--zstd", "sealed");
    let mut bytes = fs::read(&whole).unwrap();
    let broken = dir.path().join("broken.zst");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&broken, &bytes).unwrap();
    let found = answer(&whole, &broken, &[], 4);
    assert_eq!(found["answer"], "could-not", "{found:#}");
    let text = dir.path().join("text");
    fs::write(&text, "no dump").unwrap();
    assert_eq!(answer(&text, &whole, &[], 4)["answer"], "could-not");
    let absent = compare(&whole, &dir.path().join("absent"), &[]).expect(4);
    assert_eq!(absent.err.lines().count(), 1, "{}", absent.err);
    compare(&whole, &whole, &["--no-such-option"]).expect(64);
}
