//! Runs the program and compares its output with recorded output.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) use livecore_tests::golden::golden;
use serde_json::Value;

use crate::schema;

/// The program under test, with an empty standard input.
pub(crate) fn livecore() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livecore"));
    command.stdin(Stdio::null());
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.env_remove("DEBUGINFOD_URLS");
    command
}

/// The program as started by a shell in the foreground, with no signal ignored. A background job
/// ignores SIGINT, and tests inherit that.
pub(crate) fn livecore_with_signals() -> Command {
    let mut command = Command::new("env");
    command
        .args(["--default-signal", env!("CARGO_BIN_EXE_livecore")])
        .stdin(Stdio::null());
    command
}

/// The result of a run.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let code = output
            .status
            .code()
            .or_else(|| output.status.signal().map(|n| -n))
            .expect("a process ends with a code or by a signal");
        Self {
            code,
            out: output.stdout,
            err: String::from_utf8(output.stderr).expect("standard error is text"),
        }
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("standard output is text")
    }

    /// The messages of a run with `--messages json`, checked against their schema. Skips lines of
    /// programs that the run has started, such as a debugger.
    #[track_caller]
    pub(crate) fn messages(&self) -> Vec<Value> {
        let parse = |line| {
            let message = serde_json::from_str(line)
                .unwrap_or_else(|e| panic!("{e}: {line:?} is not a message"));
            schema::check("message", &message);
            message
        };
        let is_message = |line: &&str| {
            assert!(!line.starts_with("livecore: "), "{line}");
            line.starts_with('{')
        };
        self.err.lines().filter(is_message).map(parse).collect()
    }

    /// The messages with one of `levels`.
    #[track_caller]
    fn of_level(&self, level: &str) -> Vec<Value> {
        let mut messages = self.messages();
        messages.retain(|message| message["level"] == level);
        messages
    }

    /// The only error of a run with `--messages json`. Asserts its id, and that its exit code is
    /// that of the run.
    #[track_caller]
    pub(crate) fn error(&self, id: &str) -> Value {
        let [error] = &self.of_level("error")[..] else {
            panic!("not one error: {}", self.err);
        };
        assert_eq!(error["id"], id, "{error:#}");
        assert_eq!(error["exit_code"], self.code, "{error:#}");
        error.clone()
    }

    /// Asserts the ids of the warnings of a run with `--messages json`, in their order.
    #[track_caller]
    pub(crate) fn warnings(&self, ids: &[&str]) -> Vec<Value> {
        let warnings = self.of_level("warning");
        let found: Vec<_> = warnings.iter().map(|w| w["id"].clone()).collect();
        assert_eq!(found, ids, "{}", self.err);
        warnings
    }

    /// The number of messages with this id in a run with `--messages json`.
    #[track_caller]
    pub(crate) fn count(&self, id: &str) -> usize {
        self.messages().iter().filter(|m| m["id"] == id).count()
    }

    /// Asserts the exit code; prints the output if it differs.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "exit code; stderr:\n{}\nstdout begins:\n{}",
            self.err,
            String::from_utf8_lossy(&self.out[..self.out.len().min(2000)])
        );
        self
    }
}

/// Runs the program with `args`.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    Run::of(livecore().args(args).output().expect("the program starts"))
}

/// Runs the program with `args` and with messages as JSON.
pub(crate) fn run_json<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    let output = livecore().args(MESSAGES).args(args).output();
    Run::of(output.expect("the program starts"))
}

/// The options for messages as JSON.
pub(crate) const MESSAGES: [&str; 2] = ["--messages", "json"];

/// The text of the C library for a file that does not exist.
pub(crate) fn no_such_file() -> String {
    let error = fs::read("/nonexistent").expect_err("no such file");
    let error = error.to_string();
    let (text, _) = error.split_once(" (os ").expect("std appends the number");
    text.to_owned()
}

/// The path of the workspace's `testdata`.
pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

/// Runs the program with `args` in an address space of `mib` MiB.
pub(crate) fn run_within<S: AsRef<OsStr>>(mib: u64, args: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -v {}; exec \"$0\" \"$@\"", mib << 10))
        .arg(env!("CARGO_BIN_EXE_livecore"))
        .args(args)
        // Otherwise the C library reserves address space for each thread.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null());
    Run::of(command.output().expect("sh starts"))
}

/// Runs another program on `file` and returns its standard output. The program must succeed.
#[track_caller]
pub(crate) fn tool(program: &str, args: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(args)
        .arg(file)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {args:?} {}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The sorted file names in `dir`.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names = entries
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect::<Vec<_>>();
    names.sort();
    names
}

/// The machine description `name` of testdata.
pub(crate) fn machine(name: &str) -> PathBuf {
    testdata().join("machines").join(format!("{name}.toml"))
}
