//! Errors of the system at the Nth call of each kind, injected by strace(1): no dump is lost, none is
//! partial under its name, nothing temporary is left, and the program says so with exit code 1.
//!
//! `tests/inject` tries every call; without it every 20th is tried.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{MESSAGES, Run, livecore, run};

/// System calls, and the error that each fails with. A call that this processor does not have is
/// passed over.
const CALLS: &[(&str, &str)] = &[
    ("write", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("rename", "EIO"),
    ("renameat", "EIO"),
    ("renameat2", "EIO"),
    ("link", "EIO"),
    ("linkat", "EIO"),
    ("linkat", "EPERM"),
    ("symlinkat", "EIO"),
    ("unlink", "EIO"),
    ("unlinkat", "EIO"),
    ("ftruncate", "EIO"),
    ("fchmod", "EIO"),
    ("flock", "ENOLCK"),
    ("openat", "EMFILE"),
    ("openat", "EOPNOTSUPP"),
    ("clone", "EAGAIN"),
    ("clone3", "EAGAIN"),
    ("mmap", "ENOMEM"),
];

/// If a case calls a function more often than this, at most twice this number of calls fail, evenly
/// spaced. This is pwrite64(2), which writes each piece of the dump.
const CALLS_MAX: usize = 100;

/// A run, and the files that it may write.
struct Case {
    name: &'static str,
    args: Vec<String>,
    /// The directory that is watched.
    to: &'static str,
}

/// A directory with a machine and dumps of it.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for name in ["old", "new", "export", "tmp"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        // As small as a machine can be: it is dumped some thousand times.
        let text = "seed = 1\n[memory]\nsize = \"16 MiB\"\n[content]\nkernel = \"0\"\n";
        fs::write(place.path("tiny.toml"), text).unwrap();
        let tiny = place.path("tiny.toml");
        let tiny = tiny.to_str().unwrap();
        for (out, level) in [
            ("in.zst", "3"),
            ("old/livecore.0.zst", "1"),
            ("old/out.zst", "1"),
        ] {
            let to = place.path(out);
            let to = to.to_str().unwrap();
            let args = [
                "take",
                "-q",
                "--machine",
                tiny,
                "-Z",
                "--level",
                level,
                "-o",
                to,
            ];
            run(args).expect(0);
        }
        // savecore's directory, with a dump that `-m 1` replaces.
        fs::write(place.path("old/bounds"), "1\n").unwrap();
        fs::write(place.path("old/info.0"), "old\n").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts the watched directories back as they were.
    fn restore(&self, before: &BTreeMap<PathBuf, Vec<u8>>) {
        for directory in ["old", "new", "export", "tmp"] {
            let _ = fs::remove_dir_all(self.path(directory));
            fs::create_dir(self.path(directory)).unwrap();
        }
        for (path, bytes) in before {
            fs::write(path, bytes).unwrap();
        }
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for directory in ["old", "new", "export", "tmp"] {
            for entry in fs::read_dir(self.path(directory)).unwrap() {
                let path = entry.unwrap().path();
                // A link that leads nowhere has no bytes.
                files.insert(path.clone(), fs::read(&path).unwrap_or_default());
            }
        }
        files
    }
}

fn cases() -> Vec<Case> {
    let case = |name, to, line: &str| Case {
        name,
        args: line.split_whitespace().map(str::to_owned).collect(),
        to,
    };
    vec![
        case(
            "take",
            "new",
            "take --machine tiny.toml -Z -T 2 -o new/out.zst",
        ),
        case("take DIR", "new", "take --machine tiny.toml -Z -T 2 -o new"),
        case(
            "take -m",
            "old",
            "take --machine tiny.toml -Z -T 2 -m 1 -o old",
        ),
        case("convert", "new", "convert in.zst new/out.gz"),
        case(
            "convert --force",
            "old",
            "convert --force --none in.zst old/out.zst",
        ),
        case("salvage", "new", "salvage in.zst new/out.zst"),
        case("export", "export", "export in.zst export/"),
    ]
}

/// What an injected error came to.
#[derive(Default)]
struct Counts {
    runs: usize,
    failed: usize,
    passed: usize,
}

#[test]
fn error_of_any_system_call_loses_no_dump() {
    let Some(every) = every() else {
        return;
    };
    let place = Place::new();
    let before = place.files();
    let first = calls(place.dir.path(), &["--version".to_owned()], CALLS);
    let mut broken = Vec::new();
    let mut total = 0;
    for case in cases() {
        let mut counts = Counts::default();
        place.restore(&before);
        let made = calls(place.dir.path(), &case.args, CALLS);
        for (call, error) in CALLS {
            // What the loader and the C library do first is not this program's.
            let mut nth = match *call {
                "openat" | "mmap" => first.get(*call).copied().unwrap_or(0) + 1,
                _ => 1,
            };
            let last = made.get(*call).copied().unwrap_or(0);
            let step = every.max(last / CALLS_MAX);
            while nth <= last {
                place.restore(&before);
                let fault = format!("error={error}");
                let Some(run) = injected(place.dir.path(), &case.args, call, &fault, nth) else {
                    break;
                };
                let place_is_sound = check(&place, &case, &before, &run, &mut counts);
                if let Err(why) = place_is_sound {
                    broken.push(format!("{}: {call} {nth} {error}: {why}", case.name));
                }
                nth += step;
            }
        }
        let Counts {
            runs,
            failed,
            passed,
        } = counts;
        let line = format!(
            "injected: {}: {runs} errors: {failed} failures, {passed} without effect\n",
            case.name
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
        total += runs;
    }
    assert!(total > 50, "{total} errors injected");
    assert!(
        broken.is_empty(),
        "{} of {total}:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

/// Every how many calls of a kind one fails. `None` without strace(1).
pub(crate) fn every() -> Option<usize> {
    let strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if !strace.is_ok_and(|status| status.success()) {
        let _ = std::io::stderr().write_all(b"skipped: strace is not installed\n");
        return None;
    }
    let every = std::env::var("LIVECORE_INJECT_EVERY");
    Some(every.ok().and_then(|n| n.parse().ok()).unwrap_or(20))
}

/// The largest number of calls of each of `kinds` that one thread of a run makes. `dir` is the current
/// directory of the run, with a directory `tmp`.
pub(crate) fn calls(
    dir: &Path,
    args: &[String],
    kinds: &[(&str, &str)],
) -> BTreeMap<String, usize> {
    let log = dir.join("log");
    let kinds: Vec<_> = kinds.iter().map(|(call, _)| format!("?{call}")).collect();
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-e"])
        .arg(format!("trace={}", kinds.join(",")))
        .arg("-o")
        .arg(&log)
        .arg("--")
        .arg(livecore().get_program())
        .args(args)
        .current_dir(dir)
        .env("TMPDIR", dir.join("tmp"))
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    let mut by_thread = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        // `PID CALL(ARGUMENTS) = RESULT`, or `PID <... CALL resumed>` for the end of a call.
        let named = line.split_once('(').map_or("", |(start, _)| start);
        if let Some((thread, call)) = named.split_once(' ') {
            let call = call.trim_start().to_owned();
            *by_thread.entry((call, thread.to_owned())).or_insert(0) += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in by_thread {
        let largest = most.entry(call).or_insert(0);
        *largest = count.max(*largest);
    }
    most
}

/// The run with `fault` (`error=EIO`, `signal=KILL`) at the `nth` call of each thread; `None` if there
/// is no such call.
pub(crate) fn injected(
    dir: &Path,
    args: &[String],
    call: &str,
    fault: &str,
    nth: usize,
) -> Option<Run> {
    let log = dir.join("log");
    let output = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            &format!("trace={call}"),
            "-e",
            "signal=none",
        ])
        .args(["-e", &format!("inject={call}:{fault}:when={nth}"), "-o"])
        .arg(&log)
        .arg("--")
        .arg(livecore().get_program())
        .args(MESSAGES)
        .args(args)
        .current_dir(dir)
        .env("TMPDIR", dir.join("tmp"))
        // One allocation failing is one call failing.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let trace = fs::read_to_string(&log).unwrap_or_default();
    let run = Run::of(output);
    // strace ends by the signal that ended the program, and does not mark the call.
    (trace.contains("(INJECTED)") || run.code < 0).then_some(run)
}

/// Whether everything that has to be true is.
fn check(
    place: &Place,
    case: &Case,
    before: &BTreeMap<PathBuf, Vec<u8>>,
    run: &Run,
    counts: &mut Counts,
) -> Result<(), String> {
    counts.runs += 1;
    let wrong = |what: String| Err(format!("{what}; exit {}, stderr:\n{}", run.code, run.err));
    if run.err.contains("panicked") {
        return wrong("a panic".into());
    }
    match run.code {
        0 | 3 => counts.passed += 1,
        1 => counts.failed += 1,
        code => return wrong(format!("exit code {code}")),
    }
    let after = place.files();
    for path in after.keys() {
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with("livecore.tmp.") && !run.err.contains(&*name) {
            return wrong(format!("{name} is left"));
        }
    }
    let is_dump = |path: &&PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        ["livecore.0", "out.", "vmcore.0"]
            .iter()
            .any(|stem| name.starts_with(stem))
    };
    for path in before.keys().filter(is_dump) {
        if !after.contains_key(path) {
            return wrong(format!("{} is lost", path.display()));
        }
    }
    let mut new = 0;
    for (path, bytes) in after.iter().filter(|(path, _)| is_dump(path)) {
        if before.get(path) == Some(bytes) {
            continue;
        }
        new += 1;
        let sound = run_verify(path);
        if sound.code != 0 {
            return wrong(format!("{} is not sound: {}", path.display(), sound.text()));
        }
    }
    // The second precedes an error of standard output.
    let said = ["later-step-failed", "written"].map(|id| run.count(id));
    let said = said != [0, 0] || case.name == "export";
    if run.code == 1 && new > 0 && !said {
        return wrong(format!("{new} dumps in {}, and nothing says so", case.to));
    }
    if matches!(run.code, 0 | 3) && new == 0 {
        return wrong("success without a dump".into());
    }
    Ok(())
}

fn run_verify(path: &Path) -> Run {
    run([Path::new("verify"), path])
}
