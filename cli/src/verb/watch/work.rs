//! The programs that run for a crash: `take`, `verify`, `triage`, and the command of `--hook`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use livecore_livedump::publish::RunningProgram;
use livecore_livedump::qmp::Cause;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::choices::ThenArg;
use super::outcome::Dump;

/// The interval for checking whether the command of `--hook` has ended.
const POLL: Duration = Duration::from_millis(50);

/// What the programs need.
pub(super) struct Work {
    pub(super) program: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) out: PathBuf,
    pub(super) timeout: u32,
    pub(super) memory: u64,
    pub(super) no_sandbox: bool,
    pub(super) hook: Option<OsString>,
    pub(super) hook_timeout: Duration,
    /// Locked while a dump is taken, verified and triaged.
    pub(super) one_at_a_time: Mutex<()>,
}

/// A program's exit code, its JSON, and its messages.
struct Ran {
    code: u8,
    json: Option<Value>,
    messages: String,
}

impl Work {
    /// Dumps the guest, verifies the dump and triages it.
    pub(super) fn dump(&self, address: &Path, cause: Cause, then: ThenArg) -> Dump {
        let mut dump = Dump::new(address, cause, then);
        let lock = self.one_at_a_time.lock();
        let _lock = lock.unwrap_or_else(PoisonError::into_inner);
        let timeout = self.timeout.to_string();
        let taken = self.livecore(&[
            "take".as_ref(),
            "--quiet".as_ref(),
            "--json".as_ref(),
            // For a guest that QEMU did not pause.
            "--pause=whole".as_ref(),
            "--qmp-timeout".as_ref(),
            timeout.as_ref(),
            "--qmp".as_ref(),
            address.as_os_str(),
            "--kernel".as_ref(),
            self.kernel.as_os_str(),
            "--out".as_ref(),
            self.out.as_os_str(),
        ]);
        let path = taken.json.as_ref().and_then(|json| json["path"].as_str());
        let path = path.map(PathBuf::from);
        dump.taken(path.as_deref(), taken.code, &taken.messages);
        let Some(path) = path.filter(|_| matches!(taken.code, 0 | 3)) else {
            return dump;
        };
        for verb in ["verify", "triage"] {
            let json = match verb {
                "verify" => "--format=json",
                _ => "--json",
            };
            let ran = self.livecore(&[
                verb.as_ref(),
                "--quiet".as_ref(),
                json.as_ref(),
                "--kernel".as_ref(),
                self.kernel.as_os_str(),
                path.as_os_str(),
            ]);
            dump.examined(verb, ran.json, ran.code, &ran.messages);
        }
        dump
    }

    /// Runs this program.
    fn livecore(&self, args: &[&OsStr]) -> Ran {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .arg("--memory")
            .arg(self.memory.to_string())
            .args(self.no_sandbox.then_some("--no-sandbox"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let ran = RunningProgram::start(&mut command)
            .and_then(|(_running, child)| child.wait_with_output());
        match ran {
            Ok(output) => Ran::of(&output),
            Err(error) => Ran {
                code: 1,
                json: None,
                messages: format!("cannot run livecore: {error}"),
            },
        }
    }

    /// Runs the command of `--hook` with the outcome as its standard input.
    ///
    /// # Errors
    ///
    /// Why the command failed.
    pub(super) fn hook(&self, dump: &Dump) -> Result<(), String> {
        let Some(command) = &self.hook else {
            return Ok(());
        };
        let failed = |error: io::Error| format!("cannot run the command of --hook: {error}");
        let mut input = Vec::new();
        crate::json::print_line(dump, &mut input).map_err(failed)?;
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(command)
            .stdin(Stdio::piped())
            // Standard output is for events.
            .stdout(Stdio::null())
            // So that what the command starts ends with it.
            .process_group(0);
        let (_running, mut child) = RunningProgram::start(&mut shell).map_err(failed)?;
        if let Some(mut pipe) = child.stdin.take() {
            // The command does not have to read it.
            std::thread::spawn(move || pipe.write_all(&input));
        }
        let begun = Instant::now();
        loop {
            match child.try_wait().map_err(failed)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the command of --hook failed: {status}")),
                None if begun.elapsed() >= self.hook_timeout => break,
                None => std::thread::sleep(POLL),
            }
        }
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait().map_err(failed)?;
        let limit = self.hook_timeout.as_secs();
        Err(format!(
            "the command of --hook did not end within {limit} s; livecore ended it"
        ))
    }
}

impl Ran {
    fn of(output: &Output) -> Self {
        Self {
            // Without a code, a signal ended it.
            code: output
                .status
                .code()
                .and_then(|code| code.try_into().ok())
                .unwrap_or(1),
            json: serde_json::from_slice(&output.stdout).ok(),
            messages: String::from_utf8_lossy(&output.stderr)
                .trim_end()
                .to_owned(),
        }
    }
}
