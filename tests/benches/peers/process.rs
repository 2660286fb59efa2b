//! Runs a process and measures its time and memory.

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

/// Ticks per second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux.
const TICKS: f64 = 100.0;

/// Standard output of a process.
#[derive(Clone)]
pub(crate) enum Output {
    /// Discarded.
    None,
    /// A pipe that a thread reads.
    Pipe,
    /// This file.
    File(PathBuf),
}

/// A command to measure.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) output: Output,
    /// The file that it writes; removed before the run.
    pub(crate) result: Option<PathBuf>,
}

/// The measurements of a run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    /// Size of the file that it wrote.
    pub(crate) size: u64,
}

/// Whether a program is in `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl Job {
    /// Runs the command and measures its times. [`Job::memory`] measures memory in a separate run.
    pub(crate) fn run(&self) -> Result<Measured, Failure> {
        let mut running = self.start()?;
        let pid = Pid::from_child(&running.child);
        // The times of a process are available until it is reaped.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        retry_on_intr(|| waitid(WaitId::Pid(pid), ended))?;
        let mut measured = Measured {
            seconds: running.start.elapsed().as_secs_f64(),
            cpu: stat(running.child.id())?.1,
            ..Measured::default()
        };
        self.end(&mut running)?;
        if let Some(result) = &self.result {
            measured.size = fs::metadata(result)?.len();
        }
        Ok(measured)
    }

    /// Runs the command and returns its largest private memory.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let mut running = self.start()?;
        let pid = running.child.id();
        let mut most = 0;
        // Until the process has ended.
        while stat(pid)?.0 != 'Z' {
            most = most.max(private(pid));
            std::thread::sleep(Duration::from_millis(2));
        }
        self.end(&mut running)?;
        Ok(most)
    }

    fn start(&self) -> Result<Running, Failure> {
        if let Some(result) = &self.result {
            let _ = fs::remove_file(result);
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

/// A running process.
struct Running {
    start: Instant,
    child: Child,
    /// The thread that reads its pipe.
    drain: Option<JoinHandle<()>>,
}

/// State and CPU seconds of a process.
pub(crate) fn stat(pid: u32) -> Result<(char, f64), Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain any character.
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
