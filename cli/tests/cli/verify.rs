//! Tests of `livecore verify` on directories, and on files that are not dumps.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use livecore_tests::exposition;
use serde_json::Value;

use crate::harness::{Run, golden, livecore, machine, no_such_file, run, run_json};

/// A directory with one sound dump, `livecore.0.zst`, and its `info.0`.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tiny = machine("tiny");
    let args = ["take", "-q", "--zstd", "--machine"].map(AsRef::as_ref);
    let places = [tiny.as_os_str(), "-o".as_ref(), dir.path().as_os_str()];
    run(args.into_iter().chain(places)).expect(0);
    dir
}

fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Name and verdict of all reports, sorted by name.
fn verdicts(run: &Run) -> Vec<(String, String)> {
    let document: Value = serde_json::from_slice(&run.out).unwrap();
    let reports = document["reports"].as_array().unwrap().iter();
    let mut verdicts: Vec<_> = reports
        .map(|r| {
            let name = Path::new(r["name"].as_str().unwrap()).file_name().unwrap();
            let verdict = r["verdict"].as_str().unwrap();
            (name.to_str().unwrap().to_string(), verdict.to_string())
        })
        .collect();
    verdicts.sort();
    verdicts
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, verdict): &(&str, &str)| ((*name).into(), (*verdict).into());
    expected.iter().map(own).collect()
}

#[test]
fn file_with_a_dumps_name_is_never_skipped() {
    let dir = directory();
    let dump = dir.path().join("livecore.0.zst");
    let bytes = fs::read(&dump).unwrap();
    fs::write(dir.path().join("vmcore.1"), &bytes[..bytes.len() / 2]).unwrap();
    symlink("nowhere", dir.path().join("vmcore.2")).unwrap();
    mkfifo(&dir.path().join("vmcore.3"));
    symlink("livecore.0.zst", dir.path().join("vmcore.4.zst")).unwrap();
    fs::create_dir(dir.path().join("vmcore.5")).unwrap();
    let directory = dir.path().to_str().unwrap();
    let run = run(["verify", "--json", directory]).expect(1);
    let expected = [
        ("livecore.0.zst", "sound"),
        ("vmcore.1", "broken"),
        ("vmcore.2", "failed"),
        ("vmcore.3", "failed"),
        ("vmcore.4.zst", "sound"),
    ];
    assert_eq!(verdicts(&run), pairs(&expected));
    // Only dumps and their companion files, of which two cannot be read.
    let failed = run.err.lines().map(|line| line.split(": ").nth(1));
    let unreadable = ["vmcore.2", "vmcore.3"].map(|name| dir.path().join(name));
    assert!(
        failed.eq(unreadable.iter().map(|path| path.to_str())),
        "{}",
        run.err
    );
}

#[test]
fn missing_directory_does_not_stop_the_other_dumps() {
    let dir = directory();
    let nowhere = dir.path().join("nowhere");
    let places = [nowhere.as_path(), dir.path()];
    for (format, shown) in [("text", "sound"), ("junit", "<testsuite "), ("tap", "ok 2")] {
        let mut args = vec!["verify".as_ref(), "--format".as_ref(), format.as_ref()];
        args.extend(places.map(Path::as_os_str));
        let run = run(args).expect(1);
        assert!(run.text().contains(shown), "{format}: {}", run.text());
        let error = format!("livecore: {}: {}", nowhere.display(), no_such_file());
        assert!(run.err.contains(&error), "{format}: {}", run.err);
    }
}

#[test]
fn since_selects_the_new_files_of_directories() {
    let dir = directory();
    let old = dir.path().join("vmcore.7.zst");
    fs::copy(dir.path().join("livecore.0.zst"), &old).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options()
        .append(true)
        .open(&old)
        .unwrap()
        .set_modified(hour_ago)
        .unwrap();
    let (path, old) = (dir.path().to_str().unwrap(), old.to_str().unwrap());
    let count = |args: &[&str]| {
        let args = ["verify", "--quick", "--json"].iter().chain(args);
        let run = run(args);
        let value: Value = serde_json::from_slice(&run.out).unwrap();
        value["reports"].as_array().unwrap().len()
    };
    let all = count(&[path]);
    assert_eq!(count(&[path, "--since", "2h"]), all);
    assert_eq!(count(&[path, "--since", "59m"]), all - 1);
    assert_eq!(count(&[path, "--since", "2000-01-01"]), all);
    assert_eq!(count(&[path, old, "--since", "9999-12-30T00:00:00Z"]), 1);
    run_json(["verify", path, "--since", "1"])
        .expect(64)
        .error("invalid-value");
}

/// The samples of `--format prom`, with labels of the file names. promtool also checks the text if it
/// is installed.
#[test]
fn prometheus_has_verdict_findings_and_time_of_each_dump() {
    let dir = directory();
    let mut bytes = fs::read(dir.path().join("livecore.0.zst")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(dir.path().join("vmcore.1"), bytes).unwrap();
    let odd = dir.path().join("a\"b\\\n\u{202e}\u{9b}é");
    fs::write(&odd, b"no dump at all").unwrap();
    let (path, odd) = (dir.path().to_str().unwrap(), odd.to_str().unwrap());
    let run = run(["verify", "--format", "prom", path, odd, odd]).expect(2);
    let samples = exposition::parse(run.text());
    let _ = exposition::promtool(run.text());
    let of = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let key = (format!("livecore_verify_{name}"), labels.collect());
        *samples
            .get(&key)
            .unwrap_or_else(|| panic!("{key:?}: {}", run.text()))
    };
    let verdict = |dump: &str, verdict| of("dump_verdict", &[("dump", dump), ("verdict", verdict)]);
    let sound = format!("{path}/livecore.0.zst");
    let broken = format!("{path}/vmcore.1");
    let odd = odd
        .replace('\n', "\\n")
        .replace('\u{202e}', "\\u{202e}")
        .replace('\u{9b}', "\\u{9b}");
    for (dump, expected) in [(&sound, "sound"), (&broken, "broken"), (&odd, "not-a-dump")] {
        for name in ["sound", "warnings", "broken", "not-a-dump", "failed"] {
            let value = f64::from(u8::from(name == expected));
            assert_eq!(verdict(dump, name), value, "{dump} {name}");
        }
        let size = of("dump_size_bytes", &[("dump", dump)]);
        assert!(size > 0.0, "{dump}");
        assert!(of("dump_duration_seconds", &[("dump", dump)]) >= 0.0);
    }
    let findings =
        |dump: &str, severity| of("dump_findings", &[("dump", dump), ("severity", severity)]);
    assert_eq!(findings(&sound, "error"), 0.0);
    assert!(findings(&broken, "error") > 0.0);
    assert!(of("last_run_timestamp_seconds", &[]) > 1.7e9);
}

/// A line break and the characters that represent one have the same label.
#[test]
fn prometheus_has_the_worst_of_dumps_with_the_same_label() {
    let dir = directory();
    let sound = fs::read(dir.path().join("livecore.0.zst")).unwrap();
    let mut broken = sound.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    for (first, second) in [(&sound, &broken), (&broken, &sound)] {
        fs::write(dir.path().join("a\nb"), first).unwrap();
        fs::write(dir.path().join("a\\nb"), second).unwrap();
        let path = dir.path().to_str().unwrap();
        let run = run(["verify", "--format", "prom", "--all", path]).expect(2);
        let samples = exposition::parse(run.text());
        let labels = [
            ("dump".to_string(), format!("{path}/a\\nb")),
            ("verdict".to_string(), "broken".to_string()),
        ];
        let key = ("livecore_verify_dump_verdict".to_string(), labels.into());
        assert_eq!(samples.get(&key), Some(&1.0), "{}", run.text());
    }
}

#[test]
fn directory_without_dumps_is_no_failure() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    for format in ["text", "json", "junit"] {
        let run = run_json(["verify", "--format", format, path]).expect(0);
        assert_eq!(run.count("no-dumps"), 1, "{}", run.err);
    }
    // A file with another name is not verified.
    fs::write(empty.path().join("textdump.tar.0.old"), "x").unwrap();
    let run = run(["verify", path]).expect(0);
    assert!(run.err.contains("textdump.tar.0.old"), "{}", run.err);
}

#[test]
fn dumps_of_a_directory_are_sorted_and_summarized() {
    let dir = directory();
    let below = dir.path().join("below");
    fs::create_dir(&below).unwrap();
    let bytes = fs::read(dir.path().join("livecore.0.zst")).unwrap();
    for name in [
        "livecore.10.zst",
        "livecore.2.zst",
        "below/vmcore.example.org.1.zst",
    ] {
        fs::write(dir.path().join(name), &bytes).unwrap();
    }
    fs::write(dir.path().join("vmcore.3"), b"no dump at all").unwrap();
    fs::write(below.join("of-monday.zst"), &bytes).unwrap();
    let directory = dir.path().to_str().unwrap();
    let names = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let paths = lines.filter_map(|(path, _)| path.strip_prefix(directory));
        paths.map(|path| path[1..].to_string()).collect()
    };
    let printed = run(["verify", "--quick", directory]).expect(63);
    let here = [
        "livecore.0.zst",
        "livecore.2.zst",
        "livecore.10.zst",
        "vmcore.3",
    ];
    assert_eq!(names(printed.text()), here);
    let last = printed.text().lines().last();
    assert_eq!(last, Some("4 dumps: 3 sound, 1 not a dump"));
    let printed = run(["verify", "--quick", "-r", directory]).expect(63);
    assert_eq!(
        names(printed.text())[4..],
        ["below/vmcore.example.org.1.zst"]
    );
    let printed = run(["verify", "--quick", "-r", "--all", directory]).expect(63);
    assert_eq!(names(printed.text())[5..], ["below/of-monday.zst"]);
}

#[test]
fn sound_dump_is_one_line() {
    let dir = directory();
    let dump = dir.path().join("livecore.0.zst");
    let dump = dump.to_str().unwrap();
    assert_eq!(
        run(["verify", dump]).expect(0).text(),
        format!("{dump}: sound\n")
    );
    let quick = format!("{dump}: sound (quick: frames not decoded)\n");
    assert_eq!(run(["verify", "--quick", dump]).expect(0).text(), quick);
    let mut bytes = fs::read(dump).unwrap();
    bytes.extend(b"garbage\n");
    fs::write(dump, bytes).unwrap();
    run(["verify", "--quick", dump]).expect(2);
}

#[test]
fn skipped_files_are_named() {
    let dir = directory();
    let directory = dir.path().to_str().unwrap();
    for name in ["crash-of-monday.zst", "other", "core.txt.0", "minfree"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let printed = run(["verify", directory]).expect(0);
    golden(
        "messages/skipped.txt",
        &printed.err.replace(directory, "DIR"),
    );
    let printed = run_json(["verify", directory]).expect(0);
    assert_eq!(printed.count("files-skipped"), 1, "{}", printed.err);
    assert_eq!(run(["verify", "-q", directory]).expect(0).err, "");
}

#[test]
fn bitmap_beyond_the_memory_limit_is_an_error() {
    let dir = directory();
    let directory = dir.path().to_str().unwrap();
    let run = run(["verify", "--memory", "4K", directory]).expect(1);
    let printed = run.err.clone() + run.text();
    golden(
        "verify/memory-limit.txt",
        &printed.replace(directory, "DIR"),
    );
}

#[test]
fn dump_on_standard_input_is_verified_like_a_file() {
    let dir = directory();
    let bytes = fs::read(dir.path().join("livecore.0.zst")).unwrap();
    let half = bytes[..bytes.len() / 2].to_vec();
    for (bytes, code) in [(bytes, 0), (half, 2), (Vec::new(), 63)] {
        let mut child = livecore()
            .args(["verify", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.starts_with(b"-: "));
    }
}

/// netdumpd's names have a host's in them, which may have dots, and its info file has lines of its own.
#[test]
fn a_cut_dump_of_netdumpd_is_broken_by_its_info_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (dump, machine) = (path("vmcore.fw1.example.org.3"), machine("tiny"));
    let take = ["take", "-q", "--none", "--container", "saved", "--machine"];
    run(take
        .into_iter()
        .chain([machine.to_str().unwrap(), "-o", &dump]))
    .expect(0);
    let bytes = fs::read(&dump).unwrap();
    let info = format!(
        "Dump from fw1.example.org [192.0.2.7]\n  Architecture: amd64\n  Architecture version: 2\n  \
         Dump length: {}B (14 MB)\n  Blocksize: 512\n  Compression: none\n  Dumptime: Wed Jan 17 \
         17:49:12 2024\n  Hostname: fw1.example.org\n  Versionstring: FreeBSD 14.0-RELEASE #0\n  \
         Panicstring: page fault\n  Header parity check: Pass\nDump complete\n",
        bytes.len()
    );
    fs::write(path("info.fw1.example.org.3"), info).unwrap();
    run(["verify", "-q", &dump]).expect(0);
    let printed = run(["info", &dump]).expect(0);
    for expected in ["fw1.example.org", "page fault", "2024-01-17"] {
        assert!(printed.text().contains(expected), "{}", printed.text());
    }
    fs::write(&dump, &bytes[..bytes.len() - 4097]).unwrap();
    let whole = run(["verify", "-q", &dump]).expect(2);
    assert!(whole.text().contains("INFO-LENGTH"), "{}", whole.text());
    let directory = dir.path().to_str().unwrap();
    let found = run(["verify", "--json", directory]).expect(2);
    let expected = [("vmcore.fw1.example.org.3", "broken")];
    assert_eq!(verdicts(&found), pairs(&expected));
    run(["info", &dump]).expect(2);
}

/// A dump that was ordered from ddb has no panic string either, and neither has a header that a
/// conversion makes: only what a live dump has shows that the machine ran on.
#[test]
fn a_converted_crash_dump_is_not_live_and_strict_accepts_nothing_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let tiny = machine("tiny");
    let (bare, sealed) = (path("vmcore.0"), path("sealed.zst"));
    let take = ["take", "-q", "--none", "--container", "saved", "--machine"];
    run(take
        .into_iter()
        .chain([tiny.to_str().unwrap(), "-o", &bare]))
    .expect(0);
    // A byte of the message ring, which a running kernel changes.
    let mut bytes = fs::read(&bare).unwrap();
    bytes[4096 + 8] ^= 1;
    fs::write(&bare, &bytes).unwrap();
    let live = |file: &str| {
        let report = run(["verify", "--json", file]).expect(3);
        let report: Value = serde_json::from_slice(&report.out).unwrap();
        report["reports"][0]["liveness"]["live"].clone()
    };
    let info = format!(
        "Dump header from device: /dev/da0p3\n  Architecture: amd64\n  Architecture Version: 2\n  Dump \
         Length: {}\n  Blocksize: 4096\n  Compression: none\n  Dumptime: 2024-05-01 12:00:00 \
         +0200\n  Hostname: h\n  Magic: FreeBSD Kernel Dump\n  Version String: FreeBSD 14.1\n  Panic \
         String: \n  Dump Parity: 1\n  Bounds: 0\n  Dump Status: good\n",
        bytes.len()
    );
    let mut said = String::new();
    for info in [None, Some(info)] {
        if let Some(info) = info {
            fs::write(path("info.0"), info).unwrap();
        }
        run(["convert", "-q", "-f", &bare, &sealed]).expect(0);
        for file in [&bare, &sealed] {
            assert_eq!(live(file), Value::Null, "{file}");
            let strict = run(["verify", "--strict", file]).expect(2);
            assert!(strict.text().contains("MSG-CHECKSUM"), "{}", strict.text());
            said += strict.text();
        }
        for verb in ["info", "triage"] {
            let text = run([verb, "-q", &sealed]);
            // Not the file's size on disk, and no sections and messages of the kernel.
            let lines = text
                .text()
                .lines()
                .take_while(|l| !l.is_empty() && *l != "sections:");
            for line in lines.filter(|line| !line.starts_with("disk size:")) {
                said += line;
                said.push('\n');
            }
        }
    }
    let directory = dir.path().to_str().unwrap();
    golden("verify/not-live.txt", &said.replace(directory, "DIR"));
    // A raw live file is a live dump.
    let raw = path("raw");
    run(["convert", "-q", "--container", "raw", "--none", &bare, &raw]).expect(0);
    assert_eq!(live(&raw), Value::Bool(true));
    run(["verify", "--strict", &raw]).expect(3);
}

#[cfg(not(feature = "store"))]
#[test]
fn url_needs_the_feature_in_every_verb() {
    for args in [
        &["verify", "s3://crash/vmcore.0"][..],
        &["verify", "--json", "s3://crash/"],
        &["info", "s3://crash/vmcore.0"],
        &["group", "s3://crash/"],
        &["dmesg", "https://example.org/vmcore.0"],
    ] {
        let refused = run(args).expect(63);
        assert!(
            refused.err.contains("feature `store`"),
            "{args:?}: {}",
            refused.err
        );
        assert_eq!(refused.err.lines().count(), 1, "{args:?}: {}", refused.err);
    }
}
