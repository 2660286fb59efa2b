//! The environment of a run: terminals, standard input, signals.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::{spool, spool_error};
use livecore_minidump::encryption::PrivateKey;

use crate::interrupt::Interrupt;
use crate::memory;
use crate::sandbox_mode::Mode;

/// The environment of a run. A test builds its own; the program uses the process's.
#[derive(Debug)]
pub struct Env {
    /// Whether standard error is a terminal; progress bars are drawn only then.
    pub stderr_is_terminal: bool,
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether standard output is printed in color.
    pub color: bool,
    /// Standard input, for the input `-`.
    pub stdin: Option<File>,
    /// The directory for copies of streams that cannot seek (unlinked files).
    pub spool_dir: PathBuf,
    /// The directory for restart points of compressed streams, which are kept between runs.
    pub cache_dir: Option<PathBuf>,
    /// The kernel file for verbs without a kernel argument (`LIVECORE_KERNEL`).
    pub kernel: Option<PathBuf>,
    /// The file of the private key for encrypted dumps (`LIVECORE_KEY`, `--key`).
    pub key_path: Option<PathBuf>,
    /// The private key from that file, or from `--key`.
    pub key: Option<Arc<PrivateKey>>,
    /// Kernel files and directories to search, for verbs without such an argument
    /// (`LIVECORE_KERNEL_PATH`).
    pub kernel_path: Vec<PathBuf>,
    /// URLs of servers with kernels and debug files by build-id (`DEBUGINFOD_URLS`).
    pub debuginfod: Vec<String>,
    /// Memory limit, in bytes, for data whose size an input file determines.
    pub memory: u64,
    /// Whether standard output is the log of a CI job, whose runner executes some lines as
    /// commands.
    pub ci: bool,
    /// Whether standard output was open when the process started.
    pub stdout_is_open: bool,
    /// A request to stop, raised by signals.
    pub interrupt: Interrupt,
    /// Whether this run owns the process: it enters the sandbox and handles signals.
    pub is_process: bool,
    /// Whether the sandbox is required, used if possible, or not used.
    pub sandbox: Mode,
}

/// The user's directory for data that can be computed again (XDG Base Directory Specification).
fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("livecore"))
}

impl Env {
    /// No terminals, an empty standard input, no signals.
    pub fn detached() -> Self {
        Self {
            stderr_is_terminal: false,
            stdout_is_terminal: false,
            color: false,
            stdin: None,
            spool_dir: std::env::temp_dir(),
            cache_dir: None,
            kernel: None,
            key_path: None,
            key: None,
            kernel_path: Vec::new(),
            debuginfod: Vec::new(),
            memory: memory::DEFAULT_MAX,
            ci: false,
            stdout_is_open: true,
            interrupt: Interrupt::default(),
            is_process: false,
            sandbox: Mode::Off,
        }
    }

    /// The environment of this process. Called before the first thread is started.
    pub fn of_process() -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        // https://no-color.org, and terminals without color.
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
            key_path: std::env::var_os("LIVECORE_KEY")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            kernel_path: std::env::var_os("LIVECORE_KERNEL_PATH")
                .map(|paths| std::env::split_paths(&paths).collect())
                .unwrap_or_default(),
            debuginfod: std::env::var("DEBUGINFOD_URLS")
                .map(|words| {
                    words
                        .split_whitespace()
                        .filter(is_used)
                        .map(str::to_owned)
                        .collect()
                })
                .unwrap_or_default(),
            cache_dir: cache_dir(),
            memory: memory::default_budget(),
            ci: ["GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "CI"]
                .into_iter()
                .filter_map(std::env::var_os)
                .any(|value| !value.is_empty() && value != "false" && value != "0"),
            stdout_is_open: stdout_is_open(),
            is_process: true,
            ..Self::detached()
        }
    }

    /// Standard input as a file that can be read at any offset. Copies it ([`Env::spool`]) unless
    /// it is a regular file at its start.
    pub(crate) fn seekable_stdin(&mut self) -> io::Result<File> {
        let mut stdin = self.take_stdin()?;
        match is_seekable(&mut stdin) {
            true => Ok(stdin),
            false => self.spool(stdin),
        }
    }

    /// Standard input. It can be taken once.
    pub(crate) fn take_stdin(&mut self) -> io::Result<File> {
        let what = "standard input is closed or was already read";
        let missing = || io::Error::new(io::ErrorKind::NotFound, what);
        self.stdin.take().ok_or_else(missing)
    }

    /// Copies the rest of `stream` to an unlinked file in [`Env::spool_dir`].
    pub(crate) fn spool(&self, stream: File) -> io::Result<File> {
        self.spool_after(&[], stream)
    }

    /// Copies `start`, which was read before, and the rest of `stream`.
    pub(crate) fn spool_after(&self, start: &[u8], stream: File) -> io::Result<File> {
        let directory = Some(&*self.spool_dir);
        let mut file = spool(directory)?;
        let mut put = |piece: &[u8]| {
            let written = file.write_all(piece);
            written.map_err(|e| spool_error(directory, e))
        };
        put(start)?;
        self.each_piece(stream, &mut put)?;
        Ok(file)
    }

    /// Calls `put` with the rest of `stream`, piece by piece, until a signal arrives.
    pub(crate) fn each_piece(
        &self,
        mut stream: File,
        put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buf = vec![0; 1 << 16];
        loop {
            if self.interrupt.raised().is_some() {
                return Err(livecore_compress::Error::Cancelled.into());
            }
            match stream.read(&mut buf) {
                Ok(0) => return Ok(()),
                // A read returns at most the length of the buffer.
                Ok(n) => put(&buf[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether Livecore uses a word of `DEBUGINFOD_URLS`. Words such as `ima:enforcing` request signatures of Linux files.
/// Linux distributions set `https` URLs for all users, and Livecore does not support `https`.
fn is_used(word: &&str) -> bool {
    !word.starts_with("ima:") && !word.starts_with("https:")
}

/// Creates a directory for one user, and its parents.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Whether a file is a regular one at its start.
pub(crate) fn is_seekable(file: &mut File) -> bool {
    let regular = file.metadata().is_ok_and(|m| m.is_file());
    regular && file.stream_position().is_ok_and(|at| at == 0)
}

/// Whether the process was started with an open standard output. Rust's runtime opens /dev/null for
/// reading and writing in place of a closed one; the shell's `>/dev/null` opens it for writing
/// only.
fn stdout_is_open() -> bool {
    let stdout = io::stdout();
    let both = rustix::fs::fcntl_getfl(&stdout)
        .is_ok_and(|flags| flags & rustix::fs::OFlags::RWMODE == rustix::fs::OFlags::RDWR);
    let of = rustix::fs::fstat(&stdout);
    let null = rustix::fs::stat("/dev/null");
    let is_null = of.is_ok_and(|of| null.is_ok_and(|null| of.st_rdev == null.st_rdev));
    !(both && is_null)
}

/// Standard output without std's line buffer, for dumps.
pub fn standard_output() -> Box<dyn Write + Send> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stdout()),
    }
}
