//! Running a process and looking at what it takes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Failure;

/// Ticks of `/proc/PID/stat` in a second: `USER_HZ`, 100 on every Linux.
const TICKS: f64 = 100.0;

/// Where a process's output goes.
#[derive(Clone)]
pub(crate) enum Output {
    /// Nowhere, or into a file that its arguments name.
    None,
    /// Into a pipe that somebody empties.
    Pipe,
    /// Into this file, by redirection.
    File(PathBuf),
}

/// A command to be measured.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) output: Output,
    /// What it writes; removed before, measured after.
    pub(crate) makes: Option<PathBuf>,
}

/// What it took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) made: u64,
}

/// Whether there is such a program.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl Job {
    /// Runs it and takes its times. Nothing else runs meanwhile: its memory is asked for by
    /// [`Job::memory`], in a run of its own.
    pub(crate) fn run(&self) -> Result<Taken, Failure> {
        let mut running = self.start()?;
        let pid = Pid::from_child(&running.child);
        // A process that has ended keeps its times until it is waited for.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        retry_on_intr(|| waitid(WaitId::Pid(pid), ended))?;
        let mut taken = Taken {
            seconds: running.start.elapsed().as_secs_f64(),
            cpu: stat(running.child.id())?.1,
            ..Taken::default()
        };
        self.end(&mut running)?;
        if let Some(made) = &self.makes {
            taken.made = fs::metadata(made)?.len();
        }
        Ok(taken)
    }

    /// Runs it once more and says how much private memory it had at most.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let mut running = self.start()?;
        let pid = running.child.id();
        let mut most = 0;
        // A process that has ended has no memory.
        while stat(pid)?.0 != 'Z' {
            most = most.max(private(pid));
            std::thread::sleep(Duration::from_millis(2));
        }
        self.end(&mut running)?;
        Ok(most)
    }

    fn start(&self) -> Result<Running, Failure> {
        if let Some(made) = &self.makes {
            let _ = fs::remove_file(made);
        }
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        match &self.output {
            Output::None => command.stdout(Stdio::null()),
            Output::Pipe => command.stdout(Stdio::piped()),
            Output::File(path) => command.stdout(File::create(path)?),
        };
        let start = Instant::now();
        let mut child = command.spawn()?;
        let drain = child.stdout.take().map(|mut stdout| {
            std::thread::spawn(move || {
                let mut piece = vec![0; 1 << 20];
                while stdout.read(&mut piece).is_ok_and(|n| n > 0) {}
            })
        });
        Ok(Running {
            start,
            child,
            drain,
        })
    }

    fn end(&self, running: &mut Running) -> Result<(), Failure> {
        let status = running.child.wait()?;
        if let Some(drain) = running.drain.take() {
            let _ = drain.join();
        }
        if !status.success() {
            return Err(format!("{:?} {:?}: {status}", self.program, self.arguments).into());
        }
        Ok(())
    }
}

/// A process that has been started.
struct Running {
    start: Instant,
    child: Child,
    /// Whoever empties its pipe.
    drain: Option<JoinHandle<()>>,
}

/// State and CPU seconds of a process.
fn stat(pid: u32) -> Result<(char, f64), Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ").ok_or("/proc/PID/stat")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let state = rest.chars().next().unwrap_or('?');
    Ok((state, (ticks(11) + ticks(12)) / TICKS))
}

/// Private bytes of a process.
fn private(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|value| value.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
