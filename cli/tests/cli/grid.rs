//! Runs every verb that reads a dump on every recipe of testdata/dumps, sound and broken.
//!
//! The dumps come from the independent builder. testdata/golden/grid records exit codes and the
//! lines on standard error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use livecore_tests::corpus::{Recipe, recipes};
use livecore_tests::mkdump;
use serde_json::Value;

use crate::harness::{Run, golden, run, run_json, run_within};
use crate::schema;

/// Address space limit of a run on a small dump, whatever sizes the dump claims.
const MEMORY_MIB: u64 = 512;

/// A verb, and its arguments with DUMP and OUT in place of files.
const VERBS: &[(&str, &[&str])] = &[
    ("info", &["info", "DUMP"]),
    ("dmesg", &["dmesg", "DUMP"]),
    ("verify", &["verify", "DUMP"]),
    ("read", &["read", "DUMP", "0x1000", "16", "--phys"]),
    (
        "convert",
        &["convert", "DUMP", "OUT", "--container", "saved", "-q"],
    ),
];

/// Builds the dump of a recipe as a file, with its `info.N` if it has one.
fn build(recipe: &Recipe, dir: &Path) -> PathBuf {
    let built = mkdump::build_all(&recipe.text).unwrap_or_else(|e| panic!("{}: {e}", recipe.name));
    let path = dir.join("vmcore.0");
    fs::write(&path, &built.bytes).unwrap();
    if let Some(info) = &built.info {
        fs::write(dir.join("info.0"), info).unwrap();
    }
    path
}

/// Runs `work` for all recipes on all processors, and returns the results in order.
fn each<T: Send>(work: impl Fn(&Recipe, &Path) -> T + Sync) -> Vec<(Recipe, T)> {
    let recipes = recipes().unwrap();
    assert!(recipes.len() > 100, "only {} recipes", recipes.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(recipe) = recipes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let dir = tempfile::tempdir().unwrap();
                    let result = work(recipe, dir.path());
                    done.lock().unwrap().push((recipe.clone(), result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    assert_eq!(done.len(), recipes.len());
    done
}

/// Asserts that no verb exits with 0 if `verify --quick` calls the dump broken. A verb that exits with
/// 0 has not read the damaged part.
fn require_report_of_damage(recipe: &Recipe, dump: &Path, runs: &[Run]) {
    let code = |verb: &str| VERBS.iter().zip(runs).find(|((name, _), _)| *name == verb);
    let broken = code("verify").is_some_and(|(_, run)| run.code == 2);
    if broken && runs.iter().any(|run| run.code == 0) {
        let quick = ["verify".as_ref(), "--quick".as_ref(), dump.as_os_str()];
        let quick = run(quick).code;
        assert_ne!(quick, 2, "{}: a verb exits with 0", recipe.name);
    }
}

fn all_verbs(recipe: &Recipe, dir: &Path) -> Vec<Run> {
    let dump = build(recipe, dir);
    let out = dir.join("out");
    let runs: Vec<_> = VERBS
        .iter()
        .map(|(_, args)| {
            let args = args.iter().map(|arg| match *arg {
                "DUMP" => dump.as_os_str(),
                "OUT" => out.as_os_str(),
                arg => arg.as_ref(),
            });
            let mut run = run_within(MEMORY_MIB, args);
            run.err = run.err.replace(dir.to_str().unwrap(), "DIR");
            run
        })
        .collect();
    require_report_of_damage(recipe, &dump, &runs);
    runs
}

/// One run over the whole corpus checks all properties, since building it takes most of the time.
#[test]
fn every_verb_on_every_dump_prints_at_most_one_line_within_bounded_memory() {
    let results = each(all_verbs);
    let mut codes = String::new();
    let mut lines = String::new();
    for (recipe, runs) in &results {
        write!(codes, "{:42}", recipe.name).unwrap();
        let mut verbs_of: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for ((verb, _), run) in VERBS.iter().zip(runs) {
            let what = format!("{verb} {}", recipe.name);
            assert!([0, 1, 2, 3, 63].contains(&run.code), "{what}: {}", run.code);
            assert!(!run.err.contains("panicked"), "{what}: {}", run.err);
            if *verb == "verify" {
                // The findings are the report; the builder knows the expected verdict.
                assert_eq!(run.err, "", "{what}");
                let expected = recipe.expectation.as_ref().map(|e| i32::from(e.exit));
                assert_eq!(Some(run.code), expected, "{what}: {}", run.text());
                write!(codes, " {verb} {:<3}", run.code).unwrap();
                continue;
            }
            for line in run.err.lines() {
                assert!(
                    line.starts_with("livecore: DIR/vmcore.0: "),
                    "{what}: {line}"
                );
                let line = line["livecore: DIR/vmcore.0: ".len()..].to_string();
                verbs_of.entry(line).or_default().push(verb);
            }
            let errors = run.err.lines().filter(|l| !l.contains("warning: ")).count();
            assert_eq!(errors, usize::from(![0, 3].contains(&run.code)), "{what}");
            assert_eq!(run.err.is_empty(), run.code == 0, "{what}: {}", run.err);
            write!(codes, " {verb} {:<3}", run.code).unwrap();
        }
        for (line, verbs) in verbs_of {
            writeln!(lines, "{} ({}): {line}", recipe.name, verbs.join(" ")).unwrap();
        }
        codes.truncate(codes.trim_end().len());
        codes.push('\n');
    }
    golden("grid/exit-codes.txt", &codes);
    golden("grid/lines.txt", &lines);
}

/// A failed conversion leaves no file and no temporary file. A successful one contains the
/// builder's payload.
#[test]
fn conversion_writes_the_builders_payload_or_nothing() {
    each(|recipe, dir| {
        let built = mkdump::build_all(&recipe.text).unwrap();
        let dump = dir.join("dump");
        fs::write(&dump, &built.bytes).unwrap();
        let out = dir.join("out");
        let args = ["convert", "-q", "--container", "saved"].map(AsRef::as_ref);
        let run = run(args.into_iter().chain([dump.as_os_str(), out.as_os_str()]));
        let names = crate::harness::names(dir);
        if [0, 3].contains(&run.code) {
            assert_eq!(names, ["dump", "out"], "{}", recipe.name);
            // Edits of the file may change the length of an uncompressed payload.
            let edited = ["patch", "flip", "truncate", "append"]
                .iter()
                .any(|edit| recipe.text.lines().any(|l| l.starts_with(edit)));
            if !edited {
                assert!(fs::read(&out).unwrap() == built.payload, "{}", recipe.name);
            }
        } else {
            assert_eq!(names, ["dump"], "{}", recipe.name);
        }
    });
}

#[test]
fn info_json_fits_the_schema_for_every_dump() {
    let results = each(|recipe, dir| {
        let dump = build(recipe, dir);
        let run = run(["info".as_ref(), dump.as_os_str(), "--json".as_ref()]);
        if [0, 3].contains(&run.code) {
            let answer: Value = serde_json::from_slice(&run.out).unwrap();
            let schema = match answer["kind"].as_str() {
                Some("full") => "info-full",
                Some("text") => "textdump",
                _ => "info",
            };
            schema::check(schema, &answer);
            if schema != "textdump" {
                let warnings = answer["warnings"].as_array().unwrap().len();
                assert_eq!(warnings, run.err.lines().count(), "{}", recipe.name);
            }
            true
        } else if !run.out.is_empty() {
            // The members of a damaged text dump that could be read.
            let answer: Value = serde_json::from_slice(&run.out).unwrap();
            schema::check("textdump", &answer);
            assert_eq!(run.code, 2, "{}", recipe.name);
            false
        } else {
            false
        }
    });
    let answered = results.iter().filter(|(_, answered)| *answered).count();
    assert!(answered > 50, "only {answered} dumps were opened");
}

#[test]
fn info_prints_where_arm_and_amd64_kernels_are_linked_and_loaded() {
    for (name, path, expected) in [
        (
            "full-amd64-delta",
            "/elf/delta/linked",
            "0xffffffff80200000",
        ),
        ("full-amd64-delta", "/elf/delta/loaded", "0x400000"),
        (
            "arm-v2-kernvirtaddr",
            "/minidump/kernvirtaddr",
            "0xc0200000",
        ),
    ] {
        let recipe = recipes().unwrap().into_iter().find(|r| r.name == name);
        let dir = tempfile::tempdir().unwrap();
        let dump = build(&recipe.unwrap(), dir.path());
        let run = run(["info".as_ref(), dump.as_os_str(), "--json".as_ref()]);
        let answer: Value = serde_json::from_slice(&run.out).unwrap();
        let found = answer.pointer(path).and_then(Value::as_str);
        assert_eq!(found, Some(expected), "{name}: {answer}");
    }
}

/// The kernel messages of a few dumps, one with a wrapped buffer.
#[test]
fn dmesg_prints_the_oldest_line_first() {
    for name in ["amd64-v3", "amd64-v3-wrapped-msgbuf", "powerpc64-v2"] {
        let recipe = recipes().unwrap().into_iter().find(|r| r.name == name);
        let dir = tempfile::tempdir().unwrap();
        let dump = build(
            &recipe.unwrap_or_else(|| panic!("no recipe {name}")),
            dir.path(),
        );
        let args = ["dmesg".as_ref(), dump.as_os_str()];
        let kernel = run(args).expect(0);
        let all = run(args.into_iter().chain(["-a".as_ref()])).expect(0);
        let both = format!("# dmesg\n{}# dmesg -a\n{}", kernel.text(), all.text());
        golden(&format!("dmesg/{name}.txt"), &both);
        let json = run(args.into_iter().chain(["--json".as_ref()])).expect(0);
        let answer: Value = serde_json::from_slice(&json.out).unwrap();
        schema::check("dmesg", &answer);
        let lines = answer["lines"].as_array().unwrap();
        assert!(
            lines
                .iter()
                .map(|l| l.as_str().unwrap())
                .eq(kernel.text().lines())
        );
    }
}

/// All report formats have the same verdict, and the machine-readable ones are well formed.
#[test]
fn verify_exits_the_same_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    for (name, code) in [
        ("amd64-v3", 0),
        ("truncated-in-data", 3),
        ("zstd-damaged", 2),
    ] {
        let recipe = recipes().unwrap().into_iter().find(|r| r.name == name);
        let dump = build(
            &recipe.unwrap_or_else(|| panic!("no recipe {name}")),
            dir.path(),
        );
        for format in ["text", "json", "jsonl", "junit", "sarif", "github", "tap"] {
            let args = ["verify".as_ref(), dump.as_os_str()];
            let form = ["--format".as_ref(), format.as_ref()];
            let run = run(args.into_iter().chain(form)).expect(code);
            match format {
                "json" | "sarif" => drop(serde_json::from_slice::<Value>(&run.out).unwrap()),
                "jsonl" => run
                    .text()
                    .lines()
                    .for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap())),
                _ => {}
            }
        }
    }
}

#[test]
fn several_dumps_and_directories_exit_with_the_worst() {
    let dir = tempfile::tempdir().unwrap();
    let crash = dir.path().join("crash");
    fs::create_dir(&crash).unwrap();
    for (name, to) in [("amd64-v3", "vmcore.0"), ("truncated-in-data", "vmcore.1")] {
        let recipe = recipes()
            .unwrap()
            .into_iter()
            .find(|r| r.name == name)
            .unwrap();
        let built = mkdump::build(&recipe.text).unwrap();
        fs::write(crash.join(to), built).unwrap();
    }
    std::os::unix::fs::symlink("vmcore.1", crash.join("vmcore.last")).unwrap();
    let junk = dir.path().join("junk");
    fs::write(&junk, "not a dump").unwrap();
    let verify = |paths: &[&Path]| {
        let args = ["verify", "--json"].map(AsRef::as_ref);
        run(args.into_iter().chain(paths.iter().map(|p| p.as_os_str())))
    };
    let report: Value = serde_json::from_slice(&verify(&[&crash]).expect(3).out).unwrap();
    assert_eq!(report["reports"].as_array().unwrap().len(), 2);
    verify(&[&crash, &junk]).expect(63);
    verify(&[&crash, &junk, &dir.path().join("absent")]).expect(1);
    verify(&[&crash.join("vmcore.0")]).expect(0);
    let strict = ["verify".as_ref(), "--strict".as_ref(), crash.as_os_str()];
    run(strict).expect(2);
}

#[test]
fn rules_are_listed_explained_and_selected() {
    let list = run(["verify", "--list-rules"]).expect(0);
    let ids = list
        .text()
        .lines()
        .filter_map(|l| l.split_whitespace().next());
    let ids = ids.collect::<Vec<_>>();
    assert!(ids.len() > 20, "{ids:?}");
    for id in &ids {
        let text = run(["verify", "--explain", id]).expect(0);
        assert!(text.text().starts_with(id), "{id}");
    }
    run(["verify", "--explain", "NO-SUCH-RULE"]).expect(64);
    run(["verify", "--only", "NO-SUCH-RULE", "x"]).expect(64);
    run(["verify"]).expect(64);
    // A dump that violates one rule is sound to all others.
    let dir = tempfile::tempdir().unwrap();
    let recipes = recipes().unwrap();
    let recipe = recipes
        .iter()
        .find(|r| r.name == "truncated-in-data")
        .unwrap();
    let dump = build(recipe, dir.path());
    let args = ["verify".as_ref(), dump.as_os_str(), "--json".as_ref()];
    let report: Value = serde_json::from_slice(&run(args).expect(3).out).unwrap();
    let findings = report["reports"][0]["findings"].as_array().unwrap();
    let rule = findings[0]["rule"].as_str().unwrap();
    assert!(ids.contains(&rule), "{rule}");
    run(args.into_iter().chain(["--skip".as_ref(), rule.as_ref()])).expect(0);
    run(args.into_iter().chain(["--only".as_ref(), rule.as_ref()])).expect(3);
}

/// Only `--zero-tail` replaces missing pages by zeros, and every output reports it.
#[test]
fn lost_tail_is_filled_only_with_zero_tail_and_reported() {
    let recipe = recipes()
        .unwrap()
        .into_iter()
        .find(|r| r.name == "truncated-in-data")
        .unwrap();
    let built = mkdump::build_all(&recipe.text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dump = build(&recipe, dir.path());
    let convert = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let args = ["convert".as_ref(), dump.as_os_str(), out.as_os_str()];
        let run = run_json(args.into_iter().chain(more.iter().map(AsRef::as_ref)));
        (run, out)
    };
    let mut filled = built.bytes.clone();
    filled.resize(built.payload.len(), 0);
    let (refused, out) = convert("raw", &["--container", "raw"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("--zero-tail"), "{}", refused.err);
    assert!(!out.exists());
    let (done, out) = convert("filled", &["--zero-tail", "--container", "raw", "-q"]);
    assert_eq!(done.code, 3, "{}", done.err);
    done.warnings(&["zero-tail"]);
    assert!(fs::read(out).unwrap().starts_with(&filled));
    let (done, out) = convert("sealed.zst", &["--zero-tail", "-q"]);
    assert_eq!(done.code, 3, "{}", done.err);
    assert!(crate::harness::tool("zstd", &["-dcq"], &out) == filled);
    // The seal records it.
    let printed = run_json(["info".as_ref(), out.as_os_str()]).expect(3);
    printed.warnings(&["filled-tail"]);
    let (done, out) = convert("short.zst", &["-q"]);
    assert_eq!(done.code, 3, "{}", done.err);
    assert!(crate::harness::tool("zstd", &["-dcq"], &out) == built.bytes);
}

/// The text output for one dump of each container and a few architectures.
#[test]
fn info_text_matches_the_goldens() {
    for name in [
        "amd64-v3",
        "amd64-v1",
        "arm64-v3-16k",
        "powerpc64-v2",
        "live",
        "live-panicstring",
        "saved-zstd",
        "saved-gzip",
        "truncated-in-data",
    ] {
        let recipe = recipes().unwrap().into_iter().find(|r| r.name == name);
        let dir = tempfile::tempdir().unwrap();
        let dump = build(
            &recipe.unwrap_or_else(|| panic!("no recipe {name}")),
            dir.path(),
        );
        let run = run(["info".as_ref(), dump.as_os_str()]);
        let text = run.text().replace(dir.path().to_str().unwrap(), "DIR");
        // The number of blocks depends on the file system.
        let text = text
            .lines()
            .filter(|line| !line.starts_with("disk size:"))
            .fold(String::new(), |text, line| text + line + "\n");
        golden(&format!("info/{name}.txt"), &text);
    }
}
