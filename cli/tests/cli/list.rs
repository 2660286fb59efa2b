//! `livecore list`: the dumps of a directory, and the removal of old ones; directories and numbers in
//! place of dumps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use livecore_tests::mkdump;
use serde_json::Value;
use tempfile::TempDir;

use crate::encrypted;
use crate::habits::made;
use crate::harness::{Run, machine, names, run, run_json, testdata};
use crate::schema;

/// A dump of day `day` of January 2020, as savecore(8) leaves it, and its panic string.
fn recipe(day: u32) -> String {
    let time = 1_577_836_800 + 86_400 * (day - 1);
    format!(
        "minidump amd64 3\n kernbase 0xffffffff80000000\n kernend 0xffffffffc0000000\n \
         avail 0x1000 0x40000\n pages 0x2000 50 seed 1\n \
         set kdh.dumptime = {time}\n set kdh.hostname = \"h{day}.example.org\"\n \
         set kdh.panicstring = \"panic of day {day}\"\n \
         info \"/dev/da0p2\" bounds {day} status good\n"
    )
}

/// Writes `vmcore.N` or `vmcore.HOST.N`, `info.N` and `core.txt.N` of a dump of day `day`.
fn write(dir: &Path, number: &str, day: u32) {
    let built = mkdump::build_all(&recipe(day)).unwrap();
    let info = built.info.unwrap();
    for (name, bytes) in [
        ("vmcore", &built.bytes[..]),
        ("info", info.as_bytes()),
        ("core.txt", b"report"),
    ] {
        fs::write(dir.join(format!("{name}.{number}")), bytes).unwrap();
    }
}

/// Four dumps: number 2 is the oldest, then 0, 1 and 7.
fn crash() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (number, day) in [("2", 1), ("0", 2), ("1", 3), ("7", 4)] {
        write(dir.path(), number, day);
    }
    fs::write(dir.path().join("bounds"), "8\n").unwrap();
    fs::write(dir.path().join("minfree"), "100\n").unwrap();
    symlink("vmcore.7", dir.path().join("vmcore.last")).unwrap();
    symlink("info.7", dir.path().join("info.last")).unwrap();
    dir
}

fn text(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

/// The document of `livecore list --json`.
#[track_caller]
fn listed(dir: &TempDir, args: &[&str], code: i32) -> Value {
    let all = ["list", "--json", text(dir)].into_iter();
    let run = run(all.chain(args.iter().copied())).expect(code);
    let value: Value = serde_json::from_slice(&run.out).unwrap();
    schema::check("list", &value);
    value
}

fn numbers(value: &Value) -> Vec<u64> {
    let dumps = value["dumps"].as_array().unwrap();
    dumps
        .iter()
        .map(|d| d["number"].as_u64().unwrap())
        .collect()
}

/// Damages a byte of the last page, which no quick check reads.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn dumps_are_listed_by_time_with_what_their_headers_state() {
    let dir = crash();
    let value = listed(&dir, &[], 0);
    assert_eq!(numbers(&value), [2, 0, 1, 7]);
    let newest = &value["dumps"][3];
    assert_eq!(newest["time"], 1_577_836_800 + 3 * 86_400);
    assert_eq!(newest["time_utc"], "2020-01-04 00:00:00 UTC");
    assert_eq!(newest["time_origin"], "info");
    assert_eq!(newest["hostname"], "h4.example.org");
    assert_eq!(newest["panic"], "panic of day 4");
    assert_eq!(newest["kind"], "minidump");
    let files = ["vmcore.7", "core.txt.7", "info.7"].map(Value::from);
    assert_eq!(newest["files"], Value::from(files.to_vec()));
    assert_eq!(value["prune"], Value::Null);
    let shown = run(["list", text(&dir)]).expect(0);
    let lines: Vec<_> = shown.text().lines().collect();
    assert_eq!(lines.len(), 5, "{}", shown.text());
    assert!(lines[4].starts_with("7  2020-01-04 00:00:00 UTC  h4.example.org"));
    assert!(lines[4].ends_with("panic of day 4"), "{}", lines[4]);
}

#[test]
fn every_kind_of_file_is_listed_with_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    encrypted::save(dir.path(), "device");
    let tar = mkdump::build("textdump amd64\n member \"panic.txt\" text \"gone\"\n").unwrap();
    fs::write(at("textdump.tar.3"), tar).unwrap();
    write(dir.path(), "host.example.org.4", 5);
    fs::copy(made().path("vmcore.3.zst"), at("livecore.5.zst")).unwrap();
    let sealed = fs::read(at("livecore.5.zst")).unwrap();
    fs::write(at("vmcore.6.zst"), &sealed[..sealed.len() / 2]).unwrap();
    fs::write(at("vmcore.8"), "no dump").unwrap();
    fs::write(at("key.9"), "a key").unwrap();
    symlink("/nonexistent", at("vmcore.10")).unwrap();
    let value = listed(&dir, &[], 0);
    let mut found: Vec<_> = value["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dump| {
            ["dump", "kind"]
                .map(|name| dump[name].as_str().unwrap().to_owned())
                .into_iter()
                .chain([dump["check"]["verdict"].as_str().unwrap().to_owned()])
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    found.sort();
    let expected = [
        "livecore.5.zst minidump sound",
        "textdump.tar.3 text sound",
        "vmcore.10 unknown failed",
        "vmcore.6.zst minidump broken",
        "vmcore.8 unknown not-a-dump",
        "vmcore.host.example.org.4 minidump warnings",
        "vmcore_encrypted.0 encrypted encrypted",
    ];
    assert_eq!(found, expected);
    assert_eq!(value["files_without_dump"], Value::from(vec!["key.9"]));
    let of = |name: &str| {
        let dumps = value["dumps"].as_array().unwrap();
        dumps.iter().find(|d| d["dump"] == name).unwrap().clone()
    };
    let files = ["vmcore_encrypted.0", "info.0", "key.0"].map(Value::from);
    assert_eq!(
        of("vmcore_encrypted.0")["files"],
        Value::from(files.to_vec())
    );
    assert_eq!(of("textdump.tar.3")["panic"], "gone");
    let host = of("vmcore.host.example.org.4");
    assert_eq!(
        (&host["number"], &host["hostname"]),
        (&4.into(), &"h5.example.org".into())
    );
}

#[test]
fn prune_removes_the_oldest_with_all_their_files() {
    let dir = crash();
    let before = names(dir.path());
    let args = ["--prune", "--keep", "2"];
    let dry = listed(&dir, &["--prune", "--keep", "2", "--dry-run"], 0);
    assert_eq!(names(dir.path()), before);
    assert_eq!(
        (numbers(&dry).len(), &dry["prune"]["dry_run"]),
        (4, &true.into())
    );
    let value = listed(&dir, &args, 0);
    assert_eq!(numbers(&value), [1, 7]);
    assert_eq!(value["prune"]["removed"], dry["prune"]["removed"]);
    let left = [
        "bounds",
        "core.txt.1",
        "core.txt.7",
        "info.1",
        "info.7",
        "info.last",
        "minfree",
        "vmcore.1",
        "vmcore.7",
        "vmcore.last",
    ];
    assert_eq!(names(dir.path()), left);
    assert_eq!(
        listed(&dir, &args, 0)["prune"]["removed"],
        Value::from(Vec::<u8>::new())
    );
}

#[test]
fn prune_by_age_and_by_size_keeps_the_newest() {
    let dir = crash();
    listed(&dir, &["--prune", "--older-than", "36500"], 0);
    let all = listed(&dir, &[], 0);
    assert_eq!(numbers(&all), [2, 0, 1, 7]);
    let one_less = all["disk_size"].as_u64().unwrap() - 1;
    let size = one_less.to_string();
    listed(&dir, &["--prune", "--max-size", &size], 0);
    assert_eq!(numbers(&listed(&dir, &[], 0)), [0, 1, 7]);
    listed(&dir, &["--prune", "--older-than", "1"], 0);
    assert_eq!(numbers(&listed(&dir, &[], 0)), [7]);
    let run = run_json(["list", "--prune", "--max-size", "0", text(&dir)]).expect(3);
    run.warnings(&["too-large"]);
    assert_eq!(numbers(&listed(&dir, &[], 0)), [7]);
}

/// A sealed dump with damage that only its checksums show, between older and newer ones.
#[test]
fn prune_never_removes_what_is_not_verified() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in [
        "livecore.0.zst",
        "livecore.1.zst",
        "livecore.2.zst",
        "livecore.3.zst",
    ] {
        fs::copy(made().path("vmcore.3.zst"), at(name)).unwrap();
    }
    damage(&at("livecore.1.zst"));
    fs::write(at("vmcore.4"), "no dump").unwrap();
    let value = listed(&dir, &[], 0);
    assert_eq!(value["dumps"][1]["check"]["verdict"], "sound");
    let kept: Run = run_json(["list", "--prune", "--keep", "1", text(&dir)]).expect(3);
    kept.warnings(&["not-verified"]);
    let left = ["livecore.1.zst", "livecore.3.zst", "vmcore.4"];
    assert_eq!(names(dir.path()), left);
}

/// The seal has digests of the encrypted data. The file of savecore(8) has none.
#[test]
fn encrypted_dump_is_verified_without_its_key_only_if_it_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let public = testdata().join("keys/rsa2048.pub.pem");
    let (tiny, to) = (machine("tiny"), format!("{}/", text(&dir)));
    for _ in 0..3 {
        let files = [
            "--machine".as_ref(),
            tiny.as_os_str(),
            "-o".as_ref(),
            to.as_ref(),
        ];
        let key = ["--encrypt".as_ref(), public.as_os_str()];
        let verb = ["take", "-q"].map(AsRef::as_ref).into_iter();
        run(verb.chain(files).chain(key)).expect(0);
    }
    damage(&dir.path().join("livecore.1"));
    let saved = tempfile::tempdir().unwrap();
    encrypted::save(saved.path(), "device");
    for name in ["vmcore_encrypted", "key", "info"] {
        let from = saved.path().join(format!("{name}.0"));
        fs::copy(from, dir.path().join(format!("{name}.00"))).unwrap();
    }
    let value = listed(&dir, &["--prune", "--keep", "1"], 3);
    assert_eq!(value["prune"]["removed"][0]["files"][0], "livecore.0");
    let mut left: Vec<_> = value["dumps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["dump"].clone())
        .collect();
    left.sort_by_key(ToString::to_string);
    assert_eq!(left, ["livecore.1", "livecore.2", "vmcore_encrypted.00"]);
}

/// Otherwise the only sound dump would go.
#[test]
fn prune_verifies_the_newest_before_it_removes_others() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["livecore.0.zst", "livecore.1.zst"] {
        fs::copy(made().path("vmcore.3.zst"), at(name)).unwrap();
    }
    damage(&at("livecore.1.zst"));
    let value = listed(&dir, &["--prune", "--keep", "1"], 3);
    assert_eq!(value["prune"]["kept"], Value::from(vec!["livecore.1.zst"]));
    assert_eq!(names(dir.path()), ["livecore.0.zst", "livecore.1.zst"]);
}

#[test]
fn link_in_place_of_a_dump_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for day in 1..4 {
        write(dir.path(), &day.to_string(), day);
    }
    let target = elsewhere.path().join("archived");
    fs::rename(dir.path().join("vmcore.1"), &target).unwrap();
    symlink(&target, dir.path().join("vmcore.1")).unwrap();
    listed(&dir, &["--prune", "--keep", "1"], 0);
    // The time of the link is the newest.
    assert_eq!(numbers(&listed(&dir, &[], 0)), [3, 1]);
    assert!(target.exists());
}

#[test]
fn limits_are_needed_to_prune() {
    let dir = crash();
    for args in [
        &["--prune"][..],
        &["--keep", "2"],
        &["--prune", "--keep", "0"],
        &["--dry-run"],
    ] {
        let all = ["list", text(&dir)].into_iter();
        run(all.chain(args.iter().copied())).expect(64);
    }
    assert_eq!(numbers(&listed(&dir, &[], 0)).len(), 4);
    let empty = tempfile::tempdir().unwrap();
    let printed = run_json(["list", text(&empty)]).expect(0);
    assert_eq!(printed.count("no-dumps"), 1, "{}", printed.err);
    run_json(["list", "/nonexistent"])
        .expect(1)
        .error("not-found");
}

#[test]
fn directory_in_place_of_a_dump_is_its_newest_or_the_one_with_a_number() {
    let dir = crash();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let newest = path("vmcore.7");
    for verb in ["triage", "dmesg"] {
        let named = run([verb, &newest]);
        let chosen = run_json([verb, text(&dir)]).expect(named.code);
        assert_eq!(chosen.out, named.out, "{verb}");
        assert_eq!(chosen.count("dump-selected"), 1);
        let by_number = run([verb, text(&dir), "-n", "7"]).expect(named.code);
        assert_eq!(by_number.out, named.out, "{verb}");
    }
    let of = |dump: &str| run(["read", "--phys", dump, "0x2000", "16"]).expect(0).out;
    assert_eq!(of(text(&dir)), of(&newest));
    for number in ["0", "2"] {
        let out = path(&format!("copy.{number}"));
        run([
            "convert",
            "-q",
            "--none",
            "-O",
            "saved",
            "-n",
            number,
            text(&dir),
            &out,
        ])
        .expect(0);
        let original = fs::read(path(&format!("vmcore.{number}"))).unwrap();
        assert!(fs::read(out).unwrap() == original, "{number}");
    }
    run_json(["triage", text(&dir), "-n", "5"])
        .expect(1)
        .error("no-such-dump");
    run_json(["triage", &newest, "-n", "7"])
        .expect(64)
        .error("conflicting-arguments");
    let two = run(["info", text(&dir), "-n", "1"]).expect(0);
    assert!(two.text().contains("panic of day 3"), "{}", two.text());
}

#[test]
fn debuggers_take_a_directory_and_a_number_like_kgdb() {
    let (dir, kernel) = (tempfile::tempdir().unwrap(), made().path("machine/kernel"));
    fs::copy(made().path("vmcore.3.zst"), dir.path().join("vmcore.3.zst")).unwrap();
    for args in [
        &[&*kernel, text(&dir)][..],
        &[&kernel, text(&dir), "-n", "3"],
        &["-n", "3", &kernel, text(&dir)],
    ] {
        let all = ["kgdb", "--program", "echo"].into_iter();
        let run = run(all.chain(args.iter().copied())).expect(0);
        assert!(
            run.text().trim_end().ends_with("/vmcore.3"),
            "{}",
            run.text()
        );
    }
    // A single argument with -n is the kernel; the directory is then /var/crash.
    let run = run_json(["kgdb", "--program", "echo", "-n", "4294967295", &kernel]).expect(1);
    assert!(run.err.contains("/var/crash"), "{}", run.err);
}
