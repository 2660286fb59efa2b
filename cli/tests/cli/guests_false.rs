//! A fake QEMU that misbehaves at each step of a dump with a pause. Whatever it answers, the guest
//! is resumed and no file is left.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Run, livecore, machine, names, run};
use crate::qemu::{self, Memory, Qemu};

const RAM: u64 = 32 << 20;

/// The kind of misbehavior.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Silent,
    Close,
    Garbage,
    HalfALine,
    EndlessLine,
    Deep,
    WrongType,
    Refusal,
}

const FAULTS: [Fault; 8] = [
    Fault::Silent,
    Fault::Close,
    Fault::Garbage,
    Fault::HalfALine,
    Fault::EndlessLine,
    Fault::Deep,
    Fault::WrongType,
    Fault::Refusal,
];

/// The steps of a dump with `--pause` and shared memory, in order.
const STEPS: [&str; 12] = [
    "greeting",
    "qmp_capabilities",
    "query-status",
    "query-memdev",
    "share",
    "mem-path",
    "offset",
    "info mtree -f",
    "query-memory-size-summary",
    "stop",
    "info registers -a",
    "cont",
];

const REGISTERS: &str = "
CPU#0
RAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004
RSI=0000000000000005 RDI=0000000000000006 RBP=fffffe0000001000 RSP=fffffe0000000ff0
R8 =0000000000000008 R9 =0000000000000009 R10=000000000000000a R11=000000000000000b
R12=000000000000000c R13=000000000000000d R14=000000000000000e R15=000000000000000f
RIP=ffffffff80c09ade RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =003b 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]
CS =0020 0000000000000000 00000000 00209a00 DPL=0 CS64 [-R-]
SS =0028 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =003b 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]
FS =0013 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]
GS =001b 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]
LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT
TR =0048 0000000000000000 00002068 00008b00 DPL=0 TSS64-busy
GDT=     ffffffff82410ce0 00000067
IDT=     ffffffff81bbd470 00000fff
CR0=80050033 CR2=0000000801234000 CR3=0000000002a45000 CR4=003506e0
EFER=0000000000000d01
";

/// Not a step: the guest has another kind of CPU than the kernel.
const ANOTHER: &str = "another processor";

/// The machine whose memory all guests share.
struct Machine {
    dir: tempfile::TempDir,
    expected: Vec<u8>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let text = machine("tiny");
        run(["synth", text.to_str().unwrap(), "--out", &path("machine")]).expect(0);
        let (kernel, out) = (path("machine/kernel"), path("expected"));
        let image = path("machine");
        run([
            "take",
            "--image",
            &image,
            "--kernel",
            &kernel,
            "--none",
            "--container",
            "saved",
            "-o",
            &out,
        ])
        .expect(0);
        let expected = fs::read(dir.path().join("expected")).unwrap();
        Self { dir, expected }
    }

    fn ram(&self) -> PathBuf {
        self.dir.path().join("machine/ram")
    }

    /// Runs `livecore take --pause` on the guest behind `socket`, to `out`.
    fn take(&self, socket: &Path, out: &Path) -> Run {
        let output = livecore()
            .args(["take", "--pause", "--no-cpu-state", "--none", "--container"])
            .args(["saved", "--qmp-timeout", "1", "--kernel"])
            .arg(self.dir.path().join("machine/kernel"))
            .arg("--qmp")
            .arg(socket)
            .arg("-o")
            .arg(out)
            .output();
        Run::of(output.unwrap())
    }
}

/// A guest that answers like QEMU except at one step.
struct FakeQemu {
    ram: PathBuf,
    step: &'static str,
    /// `None` sends events before every answer, which is allowed.
    fault: Option<Fault>,
    /// The requested steps.
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeQemu {
    /// Serves one client until it disconnects.
    fn serve(&self, socket: &UnixStream) -> std::io::Result<()> {
        let mut out = socket.try_clone()?;
        if self.step == "greeting" && self.answer(&mut out, &Value::Null)? {
            return Ok(());
        }
        if self.step != "greeting" {
            out.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n")?;
        }
        let mut lines = BufReader::new(socket.try_clone()?);
        loop {
            let mut line = Vec::new();
            if lines.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            // The guard's first byte ends any unfinished line.
            let line = line.strip_prefix(b"\xff").unwrap_or(&line);
            let command: Value = serde_json::from_slice(line).unwrap();
            let arguments = &command["arguments"];
            let name = command["execute"].as_str().unwrap();
            let step = match name {
                "qom-get" => arguments["property"].as_str().unwrap(),
                "human-monitor-command" => arguments["command-line"].as_str().unwrap(),
                name => name,
            };
            let first = {
                let mut asked = self.asked.lock().unwrap();
                asked.push(step.into());
                asked.iter().filter(|asked| *asked == step).count() == 1
            };
            if step == self.step && first && self.fault.is_some() {
                if self.answer(&mut out, &command["id"])? {
                    return Ok(());
                }
                continue;
            }
            if self.fault.is_none() {
                let event = json!({ "event": "NOISE", "data": { "text": "}\n{\"return\": 1}" } });
                out.write_all(format!("{event}\r\n\r\n").repeat(50).as_bytes())?;
            }
            let answer = self.correct(step);
            let answer = match answer {
                Some(value) => json!({ "return": value, "id": command["id"] }),
                None => json!({ "error": { "desc": "no such command" }, "id": command["id"] }),
            };
            out.write_all(format!("{answer}\r\n").as_bytes())?;
            if step == "cont" {
                out.write_all(b"{\"event\": \"RESUME\"}\r\n")?;
            }
        }
    }

    /// QEMU's answer.
    fn correct(&self, step: &str) -> Option<Value> {
        let last = RAM - 1;
        Some(match step {
            "qmp_capabilities" | "stop" | "cont" => json!({}),
            "query-status" => json!({ "running": true, "status": "running" }),
            "query-memdev" => json!([{ "id": "ram0", "size": RAM, "share": true }]),
            "share" => json!(true),
            "mem-path" => json!(self.ram),
            "offset" => json!(0),
            "info mtree -f" => json!(format!(
                "FlatView #0\r\n AS \"memory\", root: system\r\n  \
                 0000000000000000-{last:016x} (prio 0, ram): ram0\r\n"
            )),
            "query-memory-size-summary" => json!({ "base-memory": RAM, "plugged-memory": 0 }),
            "info registers -a" if self.step == ANOTHER => {
                json!("\r\nCPU#0\r\nNIP 0000000000000100   LR 0000000000000000\r\n")
            }
            "info registers -a" => json!(REGISTERS),
            _ => return None,
        })
    }

    /// Misbehaves. Returns whether the connection ends.
    fn answer(&self, out: &mut UnixStream, id: &Value) -> std::io::Result<bool> {
        match self.fault {
            None | Some(Fault::Silent) => {}
            Some(Fault::Close) => {
                out.shutdown(std::net::Shutdown::Both)?;
                return Ok(true);
            }
            Some(Fault::Garbage) => out.write_all(b"\x00\xff{]\xc3\x28\n")?,
            Some(Fault::HalfALine) => out.write_all(b"{\"return\": {\"runn")?,
            Some(Fault::EndlessLine) => {
                let piece = vec![b'['; 1 << 20];
                for _ in 0..20 {
                    out.write_all(&piece)?;
                }
            }
            Some(Fault::Deep) => {
                let line = format!("{}{}\n", "[".repeat(200_000), "]".repeat(200_000));
                out.write_all(line.as_bytes())?;
            }
            Some(Fault::WrongType) => {
                let line = json!({ "return": [[-1.5e300]], "id": id });
                out.write_all(format!("{line}\n").as_bytes())?;
            }
            Some(Fault::Refusal) => {
                let line = json!({ "error": { "desc": "not today" }, "id": id });
                out.write_all(format!("{line}\n").as_bytes())?;
            }
        }
        Ok(false)
    }
}

/// Takes a dump of a guest that misbehaves at `step`. Returns the exit code, or an error if a
/// property is violated.
fn attempt(machine: &Machine, step: &'static str, fault: Option<Fault>) -> Result<i32, String> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("qmp");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let guest = FakeQemu {
        ram: machine.ram(),
        step,
        fault,
        asked: asked.clone(),
    };
    let server = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let _ = guest.serve(&socket);
    });
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let begun = Instant::now();
    let run = machine.take(&socket, &out.join("dump"));
    let took = begun.elapsed();
    server.join().unwrap();
    let asked = asked.lock().unwrap().clone();
    let wrong = |what: &str| {
        Err(format!(
            "{step}, {fault:?}: {what}: {} {}, {asked:?}",
            run.code, run.err
        ))
    };
    if run.err.contains("panicked") || run.err.lines().any(|line| line.len() > 1000) {
        return wrong("stderr");
    }
    let position = |name: &str| asked.iter().rposition(|step| step == name);
    // A guest that closed the connection cannot be resumed.
    let resumed = position("cont") > position("stop") || position("stop").is_none();
    if !resumed && fault != Some(Fault::Close) {
        return wrong("the guest is not resumed");
    }
    let left = names(&out);
    if took > Duration::from_secs(40) {
        return wrong("too long");
    }
    match run.code {
        0 if left == ["dump"] => match fs::read(out.join("dump")).unwrap() == machine.expected {
            true => Ok(0),
            false => wrong("another dump"),
        },
        code @ (1 | 2) if left.is_empty() => Ok(code),
        _ => wrong(&format!("left {left:?}")),
    }
}

#[test]
fn misbehaving_qemu_leaves_neither_a_dump_nor_a_paused_guest() {
    let machine = Machine::new();
    let mut cases = Vec::new();
    for (number, step) in STEPS.into_iter().enumerate() {
        for (index, fault) in FAULTS.into_iter().enumerate() {
            // All faults while the guest is paused, some of the others.
            let paused = ["stop", "info registers -a", "cont"].contains(&step);
            if paused || (index + number) % 3 == 0 {
                cases.push((step, Some(fault)));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // Most of the attempts wait, so run several at once.
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((step, fault)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = attempt(&machine, step, *fault) {
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn events_between_answers_are_ignored() {
    let machine = Machine::new();
    assert_eq!(attempt(&machine, "none", None), Ok(0));
    // Registers of an unexpected CPU are ignored.
    assert_eq!(attempt(&machine, ANOTHER, None), Ok(0));
}

#[test]
fn guest_that_has_not_started_is_not_called_damaged() {
    if !qemu::is_installed() {
        return;
    }
    let guest = Qemu::start(Memory::Shared);
    let ram = fs::File::options()
        .write(true)
        .open(guest.path("machine/ram"));
    let ram = ram.unwrap();
    let len = ram.metadata().unwrap().len();
    ram.set_len(0).unwrap();
    ram.set_len(len).unwrap();
    let refused = guest.take("out", &[]).expect(1);
    refused.error("guest-not-started");
}
