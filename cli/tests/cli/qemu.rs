//! A real QEMU guest with the memory of an emulated machine.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{MESSAGES, Run, livecore, machine, run};
use crate::real::say;

const QEMU: &str = "qemu-system-x86_64";
pub(crate) const RAM: u64 = 32 << 20;
/// Time limit, longer than any step takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Whether QEMU is installed. Prints a message if not; CI installs it.
pub(crate) fn is_installed() -> bool {
    let found = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "CI has no {QEMU}");
        say(&format!(
            "skipped: {QEMU} is not installed (Debian: qemu-system-x86)"
        ));
    }
    found
}

/// The memory of a guest.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Memory {
    /// A shared file.
    Shared,
    /// A private mapping of a file.
    Private,
    /// Private memory, into which the content is loaded.
    Own,
}

/// A guest, its files, and a monitor connection that only observes.
pub(crate) struct Qemu {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) child: Child,
    monitor: BufReader<UnixStream>,
    pub(crate) events: Vec<String>,
}

impl Qemu {
    /// Starts a guest whose CPUs do not run yet.
    pub(crate) fn start(memory: Memory) -> Self {
        // A jump to itself.
        Self::start_with(memory, &[0xeb, 0xfe], &[])
    }

    /// Starts a guest with this code at the reset vector, and with more options.
    pub(crate) fn start_with(memory: Memory, code: &[u8], more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let out = path("machine");
        run([
            "synth".as_ref(),
            machine("tiny").as_os_str(),
            "--out".as_ref(),
            out.as_os_str(),
        ])
        .expect(0);
        let mut bios = vec![0; 64 << 10];
        let reset = bios.len() - 16;
        bios[reset..reset + code.len()].copy_from_slice(code);
        fs::write(path("bios"), bios).unwrap();
        let ram = ram(dir.path());
        assert_eq!(fs::metadata(&ram).unwrap().len(), RAM);
        let mut command = Command::new(QEMU);
        let size = "32M";
        match memory {
            Memory::Shared | Memory::Private => command.args([
                "-M",
                "pc,memory-backend=ram0",
                "-object",
                &format!(
                    "memory-backend-file,id=ram0,size={size},share={},mem-path={}",
                    if memory == Memory::Shared {
                        "on"
                    } else {
                        "off"
                    },
                    ram.display()
                ),
            ]),
            Memory::Own => command.args([
                "-M",
                "pc",
                "-device",
                &format!("loader,file={},addr=0,force-raw=on", ram.display()),
            ]),
        };
        for (option, name) in [("-qmp", "qmp"), ("-qmp", "watch"), ("-gdb", "gdb")] {
            let socket = format!("unix:{},server=on,wait=off", path(name).display());
            command.args([option, &socket]);
        }
        let child = command
            .args(["-m", size, "-smp", "2", "-accel", "tcg", "-S"])
            .args(["-nodefaults", "-display", "none", "-bios"])
            .arg(path("bios"))
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let socket = loop {
            match UnixStream::connect(path("watch")) {
                Ok(socket) => break socket,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            assert!(begun.elapsed() < PATIENCE, "QEMU does not listen");
        };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut qemu = Self {
            dir,
            child,
            monitor: BufReader::new(socket),
            events: Vec::new(),
        };
        assert!(qemu.message().get("QMP").is_some());
        qemu.ask("qmp_capabilities");
        qemu
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    pub(crate) fn ask(&mut self, command: &str) -> Value {
        let line = format!("{}\n", json!({ "execute": command }));
        self.monitor.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let message = self.message();
            match message["event"].as_str() {
                Some(event) => self.events.push(event.into()),
                None => return message["return"].clone(),
            }
        }
    }

    /// Waits until the monitor reports `event`.
    pub(crate) fn await_event(&mut self, event: &str) {
        while !self.events.iter().any(|e| e == event) {
            let message = self.message();
            if let Some(event) = message["event"].as_str() {
                self.events.push(event.into());
            }
        }
    }

    /// Whether the monitor reports `event` before `child` has exited and the socket is empty.
    pub(crate) fn reports_before_exit(&mut self, event: &str, child: &mut Child) -> bool {
        let wait = |qemu: &Self, time| qemu.monitor.get_ref().set_read_timeout(Some(time)).unwrap();
        wait(self, Duration::from_millis(200));
        let mut line = String::new();
        while !self.events.iter().any(|e| e == event) {
            let has_ended = child.try_wait().unwrap().is_some();
            if let Err(error) = self.monitor.read_line(&mut line) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                if has_ended {
                    break;
                }
                continue;
            }
            let message: Value = serde_json::from_str(&std::mem::take(&mut line)).unwrap();
            self.events
                .extend(message["event"].as_str().map(String::from));
        }
        wait(self, PATIENCE);
        self.events.iter().any(|e| e == event)
    }

    pub(crate) fn status(&mut self) -> String {
        self.ask("query-status")["status"].as_str().unwrap().into()
    }

    /// Starts the CPUs.
    pub(crate) fn cont(&mut self) {
        self.ask("cont");
    }

    /// Waits for the end of QEMU. Returns whether it exited with 0.
    pub(crate) fn ended(mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// Ends QEMU.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets the guest run.
    pub(crate) fn running(mut self) -> Self {
        self.ask("cont");
        assert_eq!(self.status(), "running");
        self.events.clear();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `livecore take` on this guest, uncompressed, to `name`.
    pub(crate) fn take(&self, name: &str, more: &[&str]) -> Run {
        self.command(name, more).output().map(Run::of).unwrap()
    }

    /// The command `livecore take` on this guest to `name`; `-` is standard output.
    pub(crate) fn command(&self, name: &str, more: &[&str]) -> Command {
        let out = match name {
            "-" => PathBuf::from("-"),
            name => self.path(name),
        };
        let mut command = livecore();
        command
            .args(MESSAGES)
            .args(["take", "--qmp"])
            .arg(self.path("qmp"))
            .arg("--kernel")
            .arg(kernel(self.dir.path()))
            .args(["--qmp-timeout", "60", "-o"])
            .arg(out)
            .args(more);
        if !more.iter().any(|option| option.starts_with("--container")) {
            command.args(["--none", "--container", "saved"]);
        }
        command
    }

    /// Runs `livecore take` on this guest, sealed and compressed.
    pub(crate) fn sealed(&self, name: &str, more: &[&str]) -> Run {
        let mut all = vec!["--container=sealed", "--zstd"];
        all.extend(more);
        self.take(name, &all)
    }

    /// The dump by `take --image` of the same memory.
    pub(crate) fn expected(&self) -> Vec<u8> {
        let path = self.path("expected");
        run([
            "take".as_ref(),
            "--image".as_ref(),
            self.path("machine").as_os_str(),
            "--kernel".as_ref(),
            kernel(self.dir.path()).as_os_str(),
            "--none".as_ref(),
            "--container".as_ref(),
            "saved".as_ref(),
            "-f".as_ref(),
            "-o".as_ref(),
            path.as_os_str(),
        ])
        .expect(0);
        fs::read(path).unwrap()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn kernel(dir: &Path) -> PathBuf {
    dir.join("machine/kernel")
}

pub(crate) fn ram(dir: &Path) -> PathBuf {
    dir.join("machine/ram")
}
