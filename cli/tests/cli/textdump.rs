//! Text dumps: devices, `textdump.tar.N` and `textdump.tar.N.gz`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use livecore_tests::mkdump;
use serde_json::Value;

use crate::harness::run;
use crate::schema;

const RECIPE: &str = "textdump amd64
    member \"ddb.txt\" text \"db> bt\\nTracing pid 7 tid 100042\\npanic() at panic+0x43\\ndb> ps\\n  pid  ppid\\n\"
    member \"config.txt\" text \"options X\\n\"
    member \"msgbuf.txt\" text \"booting\\n\" times 100
    member \"panic.txt\" text \"page fault\"
    member \"version.txt\" text \"FreeBSD 14.1-RELEASE\"
";

/// A directory with the three forms of one text dump.
struct Dumps {
    dir: tempfile::TempDir,
}

impl Dumps {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tar = mkdump::build(RECIPE).unwrap();
        let device = mkdump::build(&format!("{RECIPE}container device\n")).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&tar).unwrap();
        for (name, bytes) in [
            ("textdump.tar.0", &tar),
            ("textdump.tar.1.gz", &gz.finish().unwrap()),
            ("device", &device),
        ] {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        Self { dir }
    }

    fn paths(&self) -> [PathBuf; 3] {
        ["textdump.tar.0", "textdump.tar.1.gz", "device"].map(|name| self.dir.path().join(name))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn html_report_of_a_text_dump_is_not_supported() {
    let dumps = Dumps::new();
    for path in dumps.paths() {
        let page = dumps.dir.path().join("report.html");
        let refused = run(["triage", text(&path), "--html", text(&page)]).expect(63);
        assert!(refused.out.is_empty());
        assert!(!page.exists(), "{}", path.display());
    }
}

#[test]
fn info_lists_members_and_the_panic() {
    let dumps = Dumps::new();
    for path in dumps.paths() {
        let value = run(["info", "--json", text(&path)]).expect(0);
        let value: Value = serde_json::from_str(value.text()).unwrap();
        schema::check("textdump", &value);
        let names: Vec<_> = value["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].clone())
            .collect();
        assert_eq!(
            names,
            [
                "ddb.txt",
                "config.txt",
                "msgbuf.txt",
                "panic.txt",
                "version.txt"
            ]
        );
        assert_eq!(value["panic"], "page fault");
        assert_eq!(value["version"], "FreeBSD 14.1-RELEASE");
        let shown = run(["info", text(&path)]).expect(0);
        assert!(shown.text().contains("page fault"), "{}", shown.text());
    }
}

#[test]
fn dmesg_prints_the_message_buffer() {
    let dumps = Dumps::new();
    for path in dumps.paths() {
        let run_text = run(["dmesg", text(&path)]).expect(0);
        assert_eq!(run_text.text(), "booting\n".repeat(100));
        let json = run(["dmesg", "--json", text(&path)]).expect(0);
        let value: Value = serde_json::from_str(json.text()).unwrap();
        schema::check("dmesg", &value);
        assert_eq!(value["lines"].as_array().unwrap().len(), 100);
    }
}

#[test]
fn triage_prints_panic_version_ddb_and_messages() {
    let dumps = Dumps::new();
    for path in dumps.paths() {
        let shown = run(["triage", "--lines", "3", text(&path)]).expect(0);
        for part in [
            "page fault",
            "FreeBSD 14.1-RELEASE",
            "Tracing pid 7 tid 100042",
            "panic() at panic+0x43",
            "db> ps",
            "the last 3 lines",
        ] {
            assert!(shown.text().contains(part), "{part}: {}", shown.text());
        }
        let json = run(["triage", "--json", text(&path)]).expect(0);
        let value: Value = serde_json::from_str(json.text()).unwrap();
        schema::check("textdump", &value);
        assert_eq!(value["ddb"][2], "panic() at panic+0x43");
    }
}

#[test]
fn verify_accepts_all_forms() {
    let dumps = Dumps::new();
    for path in dumps.paths() {
        run(["verify", text(&path)]).expect(0);
    }
    // In a directory too.
    let run = run(["verify", text(dumps.dir.path())]).expect(0);
    assert!(run.text().contains("textdump.tar.1.gz"), "{}", run.text());
}

#[test]
fn export_writes_an_archive_that_tar_reads() {
    let dumps = Dumps::new();
    for path in dumps.paths() {
        let out = dumps.dir.path().join("out.tar");
        run(["export", "--force", text(&path), text(&out)]).expect(0);
        let listed = std::process::Command::new("tar")
            .args(["-xOf", text(&out), "ddb.txt", "panic.txt"])
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let contents = String::from_utf8(listed.stdout).unwrap();
        assert!(
            contents.starts_with("db> bt\n") && contents.ends_with("page fault"),
            "{contents}"
        );
        // The archive is a text dump, too.
        run(["verify", text(&out)]).expect(0);
        run(["info", text(&out)]).expect(0);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = &dumps.paths()[1];
    run(["export", text(path), &format!("{}/", text(dir.path()))]).expect(0);
    assert!(dir.path().join("textdump.tar.1").exists());
}

#[test]
fn truncated_archives_have_the_members_before_the_end() {
    let dumps = Dumps::new();
    let path = &dumps.paths()[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 700]).unwrap();
    let run_info = run(["info", text(path)]).expect(2);
    assert!(
        run_info.text().contains("page fault"),
        "{}",
        run_info.text()
    );
    run(["verify", text(path)]).expect(2);
    let dmesg = run(["dmesg", text(path)]).expect(2);
    assert_eq!(dmesg.text().lines().count(), 100);
}

#[test]
fn archive_may_end_within_a_block_of_zeros() {
    let dumps = Dumps::new();
    let path = &dumps.paths()[0];
    let mut bytes = fs::read(path).unwrap();
    bytes.resize(bytes.len() + 137, 0);
    fs::write(path, &bytes).unwrap();
    for verb in ["verify", "info", "dmesg"] {
        run([verb, text(path)]).expect(0);
    }
    *bytes.last_mut().unwrap() = 1;
    fs::write(path, &bytes).unwrap();
    for verb in ["verify", "info"] {
        run([verb, text(path)]).expect(2);
    }
}

#[test]
fn verbs_that_need_memory_name_the_kind() {
    let dumps = Dumps::new();
    for path in [&dumps.paths()[0], &dumps.paths()[2]] {
        let run = run(["ps", text(path)]).expect(63);
        assert!(run.err.contains("text dump"), "{}", run.err);
    }
}
