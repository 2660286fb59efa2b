//! Served dumps of emulated machines, for tests of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use livecore_synth::{Context, Description, Machine, ThreadTruth, build};

use crate::harness::{livecore_with_signals, machine, run};

/// An emulated machine with its dump and its kernel on disk.
pub(crate) struct Dumped {
    pub(crate) machine: Machine,
    pub(crate) dump: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) ram: PathBuf,
}

impl Dumped {
    pub(crate) fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("served")
            .join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        let text = machine(name);
        let (to, dump) = (dir.join("machine"), dir.join("livecore.0.zst"));
        let [text_path, to_path, dump_path] = [&text, &to, &dump].map(|p| p.to_str().unwrap());
        run(["synth", "-q", text_path, "--out", to_path]).expect(0);
        run(["take", "-q", "--machine", text_path, "-o", dump_path]).expect(0);
        let description = Description::parse(&std::fs::read_to_string(&text).unwrap()).unwrap();
        Self {
            machine: build(&description).unwrap(),
            dump,
            kernel: to.join("kernel"),
            ram: to.join("ram"),
        }
    }

    /// A register that the kernel does not save at a context switch.
    pub(crate) fn unsaved(&self) -> &'static str {
        match self.machine.truth().architecture.name() {
            "amd64" => "rax",
            "aarch64" => "x0",
            "i386" => "eax",
            _ => "a0",
        }
    }

    /// A thread's registers, with the debuggers' names.
    pub(crate) fn registers(&self, thread: &ThreadTruth) -> Vec<(&'static str, u64)> {
        let riscv = self.machine.truth().architecture.name() == "riscv64";
        let name = |name| match name {
            "fp" if !riscv => "x29",
            "s0" => "fp",
            "lr" => "x30",
            other => other,
        };
        thread
            .registers
            .iter()
            .map(|(n, v)| (name(n), *v))
            .collect()
    }

    /// The threads in the debuggers' order: the one that dumped first.
    pub(crate) fn threads(&self) -> Vec<&ThreadTruth> {
        let mut list: Vec<_> = self.machine.truth().threads.iter().collect();
        list.sort_by_key(|t| !matches!(t.context, Context::Dump | Context::Debugger));
        list
    }
}

/// A thread's title as in the README of the real dump.
pub(crate) fn title(thread: &ThreadTruth) -> String {
    let mut title = format!("(pid {}) {}", thread.pid, thread.comm);
    if !thread.name.is_empty() && thread.name != thread.comm {
        title += &format!("/{}", thread.name);
    }
    match thread.context {
        Context::Dump | Context::Debugger => title + " (crashed)",
        Context::Stopped(cpu) | Context::Running(cpu) => format!("{title} (on CPU {cpu})"),
        Context::Saved => title,
    }
}

/// The machine with a compiled kernel that has DWARF.
pub(crate) fn debug() -> &'static Dumped {
    static DEBUG: OnceLock<Dumped> = OnceLock::new();
    DEBUG.get_or_init(|| Dumped::new("debug"))
}

/// A machine whose kernel has symbols only, like the following ones.
pub(crate) fn tiny() -> &'static Dumped {
    static TINY: OnceLock<Dumped> = OnceLock::new();
    TINY.get_or_init(|| Dumped::new("tiny"))
}

pub(crate) fn arm64() -> &'static Dumped {
    static ARM64: OnceLock<Dumped> = OnceLock::new();
    ARM64.get_or_init(|| Dumped::new("arm64"))
}

pub(crate) fn riscv64() -> &'static Dumped {
    static RISCV64: OnceLock<Dumped> = OnceLock::new();
    RISCV64.get_or_init(|| Dumped::new("riscv64"))
}

pub(crate) fn i386() -> &'static Dumped {
    static I386: OnceLock<Dumped> = OnceLock::new();
    I386.get_or_init(|| Dumped::new("i386"))
}

pub(crate) fn i386_pae() -> &'static Dumped {
    static I386_PAE: OnceLock<Dumped> = OnceLock::new();
    I386_PAE.get_or_init(|| Dumped::new("i386-pae"))
}

/// A running `livecore serve`.
pub(crate) struct Server {
    child: Child,
    /// The first line of its output.
    pub(crate) line: String,
}

impl Server {
    /// Starts it with `args`, on TCP unless they name a socket, and waits until it listens.
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = livecore_with_signals();
        command.args(["serve", "-q"]).args(args);
        // `--listen` conflicts with `--unix`.
        if command.get_args().all(|arg| arg != "--unix") {
            command.arg("--listen=127.0.0.1:0");
        }
        Self::run(&mut command)
    }

    /// Like [`Server::of`], with at most `descriptors` open files.
    pub(crate) fn within(descriptors: u32, dumped: &Dumped) -> Self {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_livecore"))
            .args(["serve", "-q", "--listen=127.0.0.1:0", "--kernel"])
            .args([&dumped.kernel, &dumped.dump])
            .stdin(Stdio::null());
        Self::run(&mut command)
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        Self { child, line }
    }

    pub(crate) fn of(dumped: &Dumped) -> Self {
        Self::start([
            dumped.dump.as_os_str(),
            "--kernel".as_ref(),
            dumped.kernel.as_os_str(),
        ])
    }

    /// The address that it printed.
    pub(crate) fn address(&self) -> &str {
        let address = self.line.strip_prefix("listening ");
        let address = address.expect("one line that begins so").trim_end();
        address.strip_prefix("unix:").unwrap_or(address)
    }

    /// Sends a signal and returns the exit code.
    pub(crate) fn end(mut self, signal: &str) -> Option<i32> {
        let status = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
        self.child.wait().unwrap().code()
    }

    /// Waits for its exit.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A minimal debugger.
pub(crate) struct Client<S>(pub(crate) S);

impl Client<TcpStream> {
    pub(crate) fn to(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, body: &str) -> String {
        let sum = body.bytes().fold(0_u8, |sum, b| sum.wrapping_add(b));
        self.send(format!("${body}#{sum:02x}").as_bytes());
        self.answer()
    }

    /// The body of the next packet.
    pub(crate) fn answer(&mut self) -> String {
        let mut body = Vec::new();
        let mut byte = [0];
        let mut inside = false;
        loop {
            self.0.read_exact(&mut byte).unwrap();
            match byte[0] {
                b'$' => inside = true,
                b'#' => break,
                b if inside => body.push(b),
                _ => {}
            }
        }
        let mut sum = [0; 2];
        self.0.read_exact(&mut sum).unwrap();
        self.send(b"+");
        String::from_utf8(body).unwrap()
    }

    /// The output of a `monitor` command.
    pub(crate) fn console(&mut self, command: &str) -> String {
        let hex: String = command.bytes().map(|b| format!("{b:02x}")).collect();
        let mut text = String::new();
        let mut answer = self.ask(&format!("qRcmd,{hex}"));
        while answer != "OK" {
            let hex = answer.strip_prefix('O').expect("text");
            for pair in hex.as_bytes().chunks(2) {
                let pair = std::str::from_utf8(pair).unwrap();
                text.push(char::from(u8::from_str_radix(pair, 16).unwrap()));
            }
            answer = self.answer();
        }
        text
    }

    /// Whether the connection is closed after any remaining data.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // An acknowledgment sent too late is answered with a reset.
        match self.0.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
