//! What a run finds around it: terminals, standard input, signals.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::interrupt::Interrupt;
use crate::memory;

/// The surroundings of a run. A test makes its own; the program takes the process's.
#[derive(Debug)]
pub struct Env {
    /// Whether people watch standard error: progress bars are drawn only then.
    pub stderr_is_terminal: bool,
    /// Whether people watch standard output.
    pub stdout_is_terminal: bool,
    /// Whether they want colours there.
    pub color: bool,
    /// Standard input, what `-` means as an input.
    pub stdin: Option<File>,
    /// Where a stream that cannot seek is kept while it is read (an unlinked file).
    pub spool_dir: PathBuf,
    /// The kernel's file for verbs that are given none (`LIVECORE_KERNEL`).
    pub kernel: Option<PathBuf>,
    /// Files and directories to look for a kernel in, for verbs that are given none
    /// (`LIVECORE_KERNEL_PATH`).
    pub kernel_path: Vec<PathBuf>,
    /// Bytes of memory for what files decide.
    pub memory: u64,
    /// Whether standard output is a log in which a line can be a command: a CI job's.
    pub ci: bool,
    /// Whether standard output was open when the process began.
    pub stdout_is_open: bool,
    /// What signals have asked for.
    pub interrupt: Interrupt,
}

impl Env {
    /// Nobody watches, standard input is empty, no signal comes.
    pub fn detached() -> Self {
        Self {
            stderr_is_terminal: false,
            stdout_is_terminal: false,
            color: false,
            stdin: None,
            spool_dir: std::env::temp_dir(),
            kernel: None,
            kernel_path: Vec::new(),
            memory: memory::MOST,
            ci: false,
            stdout_is_open: true,
            interrupt: Interrupt::default(),
        }
    }

    /// The process's own surroundings. Signals are watched from here on.
    pub fn of_process() -> Self {
        let interrupt = Interrupt::default();
        // Without the watcher a signal ends the process as it always did.
        let _ = crate::signals::watch(&interrupt);
        let stdout_is_terminal = io::stdout().is_terminal();
        // https://no-color.org, and terminals that say that they cannot.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_none_or(|v| v == "dumb");
        Self {
            stderr_is_terminal: io::stderr().is_terminal(),
            stdout_is_terminal,
            color: stdout_is_terminal && !refused,
            stdin: io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .ok()
                .map(File::from),
            kernel: std::env::var_os("LIVECORE_KERNEL")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            kernel_path: std::env::var_os("LIVECORE_KERNEL_PATH")
                .map(|paths| std::env::split_paths(&paths).collect())
                .unwrap_or_default(),
            memory: memory::default_budget(),
            ci: ["GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "CI"]
                .into_iter()
                .filter_map(std::env::var_os)
                .any(|value| !value.is_empty() && value != "false" && value != "0"),
            stdout_is_open: stdout_is_open(),
            interrupt,
            ..Self::detached()
        }
    }

    /// Standard input as a file that can be read at any offset: itself if it is a regular file at
    /// its start, else a copy ([`Env::spool`]).
    pub fn seekable_stdin(&mut self) -> io::Result<File> {
        let Some(mut stdin) = self.stdin.take() else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "standard input is not open, or was read before",
            ));
        };
        let regular = stdin.metadata().is_ok_and(|m| m.is_file());
        if regular && stdin.stream_position().is_ok_and(|at| at == 0) {
            return Ok(stdin);
        }
        self.spool(stdin)
    }

    /// What is left of `stream`, as an unlinked file in [`Env::spool_dir`].
    pub fn spool(&self, mut stream: File) -> io::Result<File> {
        let mut spool = tempfile::tempfile_in(&self.spool_dir)?;
        let mut buf = vec![0; 1 << 16];
        loop {
            if self.interrupt.raised().is_some() {
                return Err(livecore_compress::Error::Cancelled.into());
            }
            match stream.read(&mut buf) {
                Ok(0) => break,
                // A read never says more than the buffer holds.
                Ok(n) => spool.write_all(&buf[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(spool)
    }
}

/// Whether the process was started with a standard output. Rust's runtime opens /dev/null for reading
/// and writing in place of one that is closed; a shell's `>/dev/null` is for writing alone.
fn stdout_is_open() -> bool {
    let stdout = io::stdout();
    let both = rustix::fs::fcntl_getfl(&stdout)
        .is_ok_and(|flags| flags & rustix::fs::OFlags::RWMODE == rustix::fs::OFlags::RDWR);
    let of = rustix::fs::fstat(&stdout);
    let null = rustix::fs::stat("/dev/null");
    let is_null = of.is_ok_and(|of| null.is_ok_and(|null| of.st_rdev == null.st_rdev));
    !(both && is_null)
}

/// Standard output without std's line buffer: dumps are streamed through it.
pub fn standard_output() -> Box<dyn Write + Send> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stdout()),
    }
}
