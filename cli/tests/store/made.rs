//! The program under test, and its dumps.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A machine of more than two parts of an upload, with pages that do not compress.
const MACHINE: &str = r#"
seed = 7
[memory]
size = "64 MiB"
[content]
direct = "24 MiB"
mix = [0, 0, 0, 0, 100]
[state]
panic = "page fault"
"#;

/// A dump and its kernel.
pub(crate) struct Made {
    _dir: tempfile::TempDir,
    pub(crate) kernel: PathBuf,
    /// Sealed, in zstd frames.
    pub(crate) dump: PathBuf,
    pub(crate) bytes: Vec<u8>,
    /// Sealed, without compression.
    pub(crate) plain: PathBuf,
}

pub(crate) fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("machine.toml"), MACHINE).unwrap();
        let (machine, dump, plain) = (path("machine"), path("vmcore.0.zst"), path("vmcore.1"));
        let synth = [OsStr::new("synth"), path("machine.toml").as_os_str()].map(OsStr::to_owned);
        done(livecore(&synth).arg("--out").arg(&machine));
        let take = || livecore(&["take", "--frame-size", "256K", "--image"]);
        done(take().arg(&machine).arg("-o").arg(&dump));
        done(take().arg(&machine).arg("--none").arg("-o").arg(&plain));
        Made {
            bytes: fs::read(&dump).unwrap(),
            kernel: machine.join("kernel"),
            dump,
            plain,
            _dir: dir,
        }
    })
}

/// The program, for servers on the loopback interface, with short limits.
pub(crate) fn livecore<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livecore"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&*name);
        }
    }
    command
        .env("LIVECORE_STORE_TIMEOUT", "2")
        .env("LIVECORE_STORE_RETRIES", "2")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1");
    command
}

pub(crate) fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Runs a command that fails with `code`, and returns its only line.
#[track_caller]
pub(crate) fn fails(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("livecore: "), "{err}");
    err
}

/// Standard output of a successful command.
pub(crate) fn text(command: &mut Command) -> String {
    String::from_utf8(done(command).stdout).unwrap()
}

/// The output of `verb` for `dump`, with its kernel.
pub(crate) fn with_kernel(verb: &str, dump: impl AsRef<Path>) -> Command {
    let mut command = livecore(&[verb, "--kernel"]);
    command.arg(&made().kernel).arg(dump.as_ref());
    command
}
