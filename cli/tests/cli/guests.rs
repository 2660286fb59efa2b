//! Guests of a real QEMU: a machine of synth's in their memory, dumped over QMP.
//!
//! The firmware is 64 KiB of zeros with one jump to itself at the reset vector. So a guest that
//! runs changes nothing, and what is dumped is what was put there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Run, livecore, machine, names, run};
use crate::real::say;

const QEMU: &str = "qemu-system-x86_64";
const RAM: u64 = 32 << 20;
/// More than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether there is a QEMU; says so if not. CI installs it.
fn is_there() -> bool {
    let there = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "CI has no {QEMU}");
        say(&format!(
            "skipped: there is no {QEMU} (Debian: qemu-system-x86)"
        ));
    }
    there
}

/// How a guest gets its memory.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    /// A file that it shares.
    Shared,
    /// Of its own; the content is loaded.
    Own,
}

/// A guest, its files, and a monitor that only watches.
struct Qemu {
    dir: tempfile::TempDir,
    child: Child,
    monitor: BufReader<UnixStream>,
    events: Vec<String>,
}

impl Qemu {
    /// A guest that has not begun to run.
    fn start(memory: Memory) -> Self {
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
        bios[reset..reset + 2].copy_from_slice(&[0xeb, 0xfe]);
        fs::write(path("bios"), bios).unwrap();
        let ram = ram(dir.path());
        assert_eq!(fs::metadata(&ram).unwrap().len(), RAM);
        let mut command = Command::new(QEMU);
        let size = "32M";
        match memory {
            Memory::Shared => command.args([
                "-M",
                "pc,memory-backend=ram0",
                "-object",
                &format!(
                    "memory-backend-file,id=ram0,size={size},share=on,mem-path={}",
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
        for name in ["qmp", "watch"] {
            let socket = format!("unix:{},server=on,wait=off", path(name).display());
            command.args(["-qmp", &socket]);
        }
        let child = command
            .args([
                "-m",
                size,
                "-smp",
                "2",
                "-accel",
                "tcg",
                "-S",
                "-nodefaults",
            ])
            .args(["-display", "none", "-bios"])
            .arg(path("bios"))
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

    fn ask(&mut self, command: &str) -> Value {
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

    /// Waits until the monitor tells of `event`.
    fn await_event(&mut self, event: &str) {
        while !self.events.iter().any(|e| e == event) {
            let message = self.message();
            if let Some(event) = message["event"].as_str() {
                self.events.push(event.into());
            }
        }
    }

    fn status(&mut self) -> String {
        self.ask("query-status")["status"].as_str().unwrap().into()
    }

    /// Lets it run.
    fn running(mut self) -> Self {
        self.ask("cont");
        assert_eq!(self.status(), "running");
        self.events.clear();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `livecore take` of this guest, uncompressed, to `name`.
    fn take(&self, name: &str, more: &[&str]) -> Run {
        self.command(name, more).output().map(Run::of).unwrap()
    }

    fn command(&self, name: &str, more: &[&str]) -> Command {
        let mut command = livecore();
        command
            .args(["take", "--qmp"])
            .arg(self.path("qmp"))
            .arg("--kernel")
            .arg(kernel(self.dir.path()))
            .args([
                "--none",
                "--container",
                "saved",
                "--qmp-timeout",
                "60",
                "-o",
            ])
            .arg(self.path(name))
            .args(more);
        command
    }

    /// What `take --image` makes of the same memory.
    fn expected(&self) -> Vec<u8> {
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

fn kernel(dir: &Path) -> PathBuf {
    dir.join("machine/kernel")
}

fn ram(dir: &Path) -> PathBuf {
    dir.join("machine/ram")
}

/// Pages (by offset) in which two payloads of the same length differ.
fn differing(a: &[u8], b: &[u8]) -> usize {
    assert_eq!(a.len(), b.len());
    let pages = a.chunks(4096).zip(b.chunks(4096));
    pages.filter(|(a, b)| a != b).count()
}

#[test]
fn a_guest_that_runs_on_is_read_through_the_memory_that_it_shares() {
    if !is_there() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let taken = qemu.take("live", &[]).expect(0);
    assert!(taken.err.contains("runs on"), "{}", taken.err);
    // Nothing changed, and that was counted.
    assert!(taken.err.contains("orn"), "{}", taken.err);
    assert!(fs::read(qemu.path("live")).unwrap() == qemu.expected());
    assert_eq!(qemu.status(), "running");
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
    // A pipe gets the same bytes.
    let mut command = qemu.command("unused", &[]);
    command.args(["-o", "-"]);
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let unused = qemu.path("unused");
    let mut args: Vec<_> = args
        .into_iter()
        .filter(|a| a != unused.as_os_str())
        .collect();
    // Only one -o is left, with its value.
    let first = args.iter().position(|a| a == "-o").unwrap();
    args.remove(first);
    let piped = run(args).expect(0);
    assert!(piped.out == qemu.expected());
}

#[test]
fn a_paused_guest_gives_one_moment_and_goes_on() {
    if !is_there() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let taken = qemu.take("plain", &["--pause", "--no-cpu-state"]).expect(0);
    assert!(taken.err.contains("0 of"), "{}", taken.err);
    assert!(taken.err.contains("was paused for"), "{}", taken.err);
    let expected = qemu.expected();
    assert!(fs::read(qemu.path("plain")).unwrap() == expected);
    assert_eq!(qemu.status(), "running");
    assert_eq!(qemu.events, ["STOP", "RESUME"]);
    // With the processors' registers, some pages of variables are others, and no more.
    qemu.take("registers", &["--pause", "--cpu", "1"]).expect(0);
    let with = fs::read(qemu.path("registers")).unwrap();
    let pages = differing(&with, &expected);
    assert!((1..=4).contains(&pages), "{pages} pages differ");
    let files = names(qemu.dir.path());
    assert!(
        !files.iter().any(|f| f.starts_with("livecore.")),
        "{files:?}"
    );
}

#[test]
fn a_guest_that_others_paused_stays_paused() {
    if !is_there() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared);
    for (name, more) in [("with", &["--pause"][..]), ("without", &[])] {
        let mut all = vec!["--no-cpu-state"];
        all.extend(more);
        qemu.take(name, &all).expect(0);
        assert!(
            fs::read(qemu.path(name)).unwrap() == qemu.expected(),
            "{name}"
        );
    }
    assert_eq!(qemu.status(), "prelaunch");
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
}

#[test]
fn memory_that_is_not_shared_is_written_by_qemu_if_the_guest_may_be_stopped() {
    if !is_there() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Own).running();
    let refused = qemu.take("dump", &[]).expect(63);
    assert!(refused.err.contains("--pause"), "{}", refused.err);
    assert!(!qemu.path("dump").exists());
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
    let taken = qemu.take("dump", &["--pause", "--no-cpu-state"]).expect(0);
    assert!(
        taken.err.contains("QEMU stopped the guest for"),
        "{}",
        taken.err
    );
    assert!(fs::read(qemu.path("dump")).unwrap() == qemu.expected());
    qemu.await_event("RESUME");
    assert_eq!(qemu.status(), "running");
    assert!(qemu.events.contains(&"STOP".into()));
}

#[test]
fn a_guest_goes_on_when_who_paused_it_is_killed() {
    if !is_there() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let mut killed = 0;
    // Whether the kill comes before the work is done is a matter of luck.
    for round in 0..40 {
        qemu.events.clear();
        let mut child = qemu
            .command("dump", &["--pause", "-f"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        qemu.await_event("STOP");
        child.kill().unwrap();
        let killed_now = child.wait().unwrap().code().is_none();
        let before = qemu.events.iter().any(|e| e == "RESUME");
        qemu.await_event("RESUME");
        assert_eq!(qemu.status(), "running", "round {round}");
        killed += u32::from(killed_now && !before);
        if killed == 3 {
            break;
        }
    }
    assert!(killed > 0, "never killed while the guest was paused");
}

#[test]
fn who_does_not_speak_qmp_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("kernel");
    let out = dir.path().join("machine");
    run([
        "synth".as_ref(),
        machine("tiny").as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
    ])
    .expect(0);
    fs::copy(out.join("kernel"), &kernel).unwrap();
    let take = |socket: &Path| {
        run([
            "take".as_ref(),
            "--qmp".as_ref(),
            socket.as_os_str(),
            "--kernel".as_ref(),
            kernel.as_os_str(),
            "--qmp-timeout".as_ref(),
            "1".as_ref(),
            "-o".as_ref(),
            dir.path().join("dump").as_os_str(),
        ])
    };
    let nobody = take(&dir.path().join("nobody")).expect(1);
    assert!(
        nobody.err.contains("nobody: No such file"),
        "{}",
        nobody.err
    );
    // Somebody who listens and says nothing.
    let silent = dir.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let silence = take(&silent).expect(1);
    assert!(
        silence.err.contains("no answer to the greeting within 1 s"),
        "{}",
        silence.err
    );
    assert!(!dir.path().join("dump").exists());
    let files = names(dir.path());
    assert!(
        !files.iter().any(|f| f.starts_with("livecore.")),
        "{files:?}"
    );
}
