//! Runs a command after each dump.
//!
//! The server cannot run programs, because it parses packets and dumps in the sandbox. Before it enters the
//! sandbox, it starts this program with a hidden verb, which has only the command and a pipe: it runs the
//! command once for each line that arrives. It is in its own process group, so that Ctrl-C does not end it
//! before the last line.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{TrySendError, sync_channel};

use crate::failure::Failure;
use crate::guard;
use crate::id::Id;
use crate::session::Session;

/// Number of lines that wait for the command. More are dropped.
const WAITING: usize = 1024;

/// The process that runs the command.
#[derive(Debug)]
pub(super) struct Hook(Child);

impl Hook {
    /// Starts the process.
    pub(super) fn start(command: &OsStr) -> Result<Self, Failure> {
        let child = guard::command("netdump-hook")?
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn();
        child.map(Self).map_err(|e| {
            Failure::could_not(format_args!("cannot start the process for --hook: {e}"))
                .id_is(Id::ProgramFailed)
        })
    }

    /// Runs the command with `line` as its standard input.
    pub(super) fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.0.stdin {
            Some(pipe) => pipe.write_all(line),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until the command has run for every line.
    pub(super) fn wait(mut self) {
        // This closes the pipe.
        let _ = self.0.wait();
    }
}

/// Arguments of the hidden verb `netdump-hook`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Command for sh(1)
    #[arg(allow_hyphen_values = true)]
    command: OsString,
}

/// Runs the command for each line of standard input.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let Some(stdin) = session.env.stdin.take() else {
        return Ok(());
    };
    let (lines, waiting) = sync_channel::<String>(WAITING);
    let (dropped, drops) = sync_channel::<()>(WAITING);
    // Reads on while the command runs, so that the server never waits for it.
    std::thread::Builder::new()
        .name("lines".into())
        .spawn(move || {
            for line in BufReader::new(stdin).lines().map_while(Result::ok) {
                if let Err(TrySendError::Full(_)) = lines.try_send(line) {
                    let _ = dropped.try_send(());
                }
            }
        })?;
    for line in waiting {
        let subject = args.command.as_ref();
        for _ in drops.try_iter() {
            let line = "an outcome was dropped: too many are waiting for the command";
            session.voice.warn(subject, Id::HookFailed, line);
        }
        if let Err(why) = run_once(&args.command, &line) {
            session.voice.warn(subject, Id::HookFailed, why);
        }
    }
    Ok(())
}

/// Runs the command with `line` as its standard input.
fn run_once(command: &OsStr, line: &str) -> Result<(), String> {
    let failed = |e: io::Error| format!("cannot run it: {e}");
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // The command does not have to read it.
        let _ = pipe.write_all(format!("{line}\n").as_bytes());
    }
    match child.wait().map_err(failed)? {
        status if status.success() => Ok(()),
        status => Err(format!("failed: {status}")),
    }
}
