//! Tests of `livecore watch`, with QEMU guests whose firmware writes to a device, and with peers that are not
//! QEMU.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{MESSAGES, Run, livecore_with_signals, machine, names, run};
use crate::qemu::{Memory, Qemu, is_installed, kernel};
use crate::schema;

/// Writes 1 to port 0x505 of pvpanic, then jumps to itself.
const PANIC: [u8; 8] = [0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xeb, 0xfe];
/// Starts the watchdog ib700 with its shortest time: 15 to port 0x443.
const WATCHDOG: [u8; 8] = [0xba, 0x43, 0x04, 0xb0, 0x0f, 0xee, 0xeb, 0xfe];
/// Resets the machine through the keyboard controller.
const RESET: [u8; 6] = [0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe];

fn panicking(memory: Memory) -> Qemu {
    Qemu::start_with(memory, &PANIC, &["-device", "pvpanic"])
}

/// A running `livecore watch`.
struct Watch {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Watch {
    fn start(guests: &[PathBuf], kernel: &Path, out: &Path, more: &[&str]) -> Self {
        let mut command = livecore_with_signals();
        command.args(MESSAGES).args(["watch", "--json", "-k"]);
        command.arg(kernel).arg("-o").arg(out).args(more);
        if !more.contains(&"--qmp-timeout") {
            command.args(["--qmp-timeout", "60"]);
        }
        for guest in guests {
            command.arg("--qmp").arg(guest);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            events: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Watches one guest.
    fn one(qemu: &Qemu, more: &[&str]) -> Self {
        fs::create_dir_all(qemu.path("out")).unwrap();
        let kernel = kernel(&qemu.path(""));
        let mut watch = Self::start(&[qemu.path("qmp")], &kernel, &qemu.path("out"), more);
        assert_eq!(watch.event("watching")["guest"], name(&qemu.path("qmp")));
        watch
    }

    /// The next event, which is of this kind.
    fn event(&mut self, kind: &str) -> Value {
        let mut line = String::new();
        self.events.read_line(&mut line).unwrap();
        let event: Value = match serde_json::from_str(&line) {
            Ok(event) => event,
            Err(error) => {
                let mut err = String::new();
                let stderr = self.child.stderr.as_mut().unwrap();
                stderr.read_to_string(&mut err).unwrap();
                panic!("{error}: {line:?}\n{err}");
            }
        };
        schema::check("watch", &event);
        assert_eq!(event["event"], kind, "{event:#}");
        event
    }

    fn wait(mut self) -> Run {
        let mut rest = String::new();
        self.events.read_to_string(&mut rest).unwrap();
        let mut run = Run::of(self.child.wait_with_output().unwrap());
        run.out = rest.into_bytes();
        run
    }
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The dump of an event.
fn dump(event: &Value) -> PathBuf {
    event["dump"]
        .as_str()
        .unwrap_or_else(|| panic!("{event:#}"))
        .into()
}

#[test]
fn panic_is_dumped_verified_triaged_and_passed_to_the_hook() {
    if !is_installed() {
        return;
    }
    for memory in [Memory::Shared, Memory::Private] {
        let mut qemu = panicking(memory);
        let hook = format!("cat > {}", name(&qemu.path("hook")));
        let mut watch = Watch::one(&qemu, &["--once", "--hook", &hook]);
        qemu.cont();
        let event = watch.event("dump");
        let ended = watch.wait();
        assert_eq!(
            ended.code,
            event["exit_code"].as_i64().unwrap() as i32,
            "{}",
            ended.err
        );
        assert!([0, 3].contains(&ended.code), "{event:#}");
        assert_eq!(event["cause"], "panic");
        assert_eq!(event["then"], "pause");
        assert_eq!(event["errors"], Value::Array(Vec::new()));
        assert_eq!(event["verify"]["reports"][0]["verdict"], event["verdict"]);
        assert_eq!(event["triage"]["architecture"], "amd64");
        let input = fs::read_to_string(qemu.path("hook")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), event);
        assert_eq!(qemu.status(), "guest-panicked");
        let expected = qemu.expected();
        fs::write(qemu.path("expected"), expected).unwrap();
        let same = run([
            "compare".as_ref(),
            dump(&event).as_os_str(),
            qemu.path("expected").as_os_str(),
        ]);
        assert_eq!(same.code, 0, "{}", same.text());
        let files = names(&qemu.path("out"));
        assert!(files.contains(&"livecore.0.zst".into()), "{files:?}");
        assert!(!files.iter().any(|file| file.starts_with('.')), "{files:?}");
    }
}

#[test]
fn ten_guests_are_dumped_while_the_socket_of_another_dies() {
    if !is_installed() {
        return;
    }
    let mut guests: Vec<Qemu> = (0..11).map(|_| panicking(Memory::Shared)).collect();
    let dir = tempfile::tempdir().unwrap();
    let sockets: Vec<PathBuf> = guests.iter().map(|guest| guest.path("qmp")).collect();
    let kernel = kernel(&guests[0].path(""));
    let options = ["--once", "--then", "shutdown"];
    let mut watch = Watch::start(&sockets, &kernel, dir.path(), &options);
    for _ in &guests {
        watch.event("watching");
    }
    guests[10].kill();
    let lost = watch.event("lost");
    assert_eq!(lost["guest"], name(&sockets[10]));
    assert!(
        lost["error"]
            .as_str()
            .unwrap()
            .contains("closed the connection"),
        "{lost}"
    );
    guests.pop();
    for guest in &mut guests {
        guest.cont();
    }
    let events: Vec<Value> = (0..10).map(|_| watch.event("dump")).collect();
    let run = watch.wait();
    assert_eq!(run.code, 1, "{}", run.err);
    assert_eq!(run.count("qmp-gone"), 1, "{}", run.err);
    let dumped: BTreeSet<&str> = events
        .iter()
        .map(|e| e["guest"].as_str().unwrap())
        .collect();
    let dumps: BTreeSet<PathBuf> = events.iter().map(dump).collect();
    assert_eq!((dumped.len(), dumps.len()), (10, 10));
    assert!(dumps.iter().all(|path| path.is_file()), "{dumps:?}");
    for guest in guests {
        assert!(guest.ended());
    }
    let files = names(dir.path());
    assert!(!files.iter().any(|file| file.starts_with('.')), "{files:?}");
}

#[test]
fn guest_that_is_reset_is_dumped_again_and_survives_a_signal() {
    if !is_installed() {
        return;
    }
    for (code, cause) in [(&PANIC[..], "panic"), (&RESET, "reset")] {
        let mut qemu = Qemu::start_with(Memory::Shared, code, &["-device", "pvpanic"]);
        let mut watch = Watch::one(&qemu, &["--on", cause, "--then", "reset"]);
        qemu.cont();
        let first = watch.event("dump");
        assert_eq!(first["then"], "reset");
        let second = watch.event("dump");
        assert_eq!(second["cause"], cause);
        assert_ne!(dump(&first), dump(&second));
        kill_process(Pid::from_child(&watch.child), Signal::TERM).unwrap();
        let run = watch.wait();
        assert_eq!(run.code, 143, "{}", run.err);
        // A dump that was in progress leaves no file, and QEMU runs.
        assert!(!qemu.status().is_empty());
        let files = names(&qemu.path("out"));
        assert!(!files.iter().any(|file| file.starts_with('.')), "{files:?}");
    }
}

/// The action for resets does not affect the commands of other clients and of guests.
#[test]
fn reset_by_another_client_is_not_a_crash() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start_with(Memory::Shared, &[0xeb, 0xfe], &[]);
    let mut watch = Watch::one(&qemu, &["--once", "--on", "reset,panic"]);
    qemu.cont();
    qemu.ask("system_reset");
    qemu.await_event("RESET");
    while qemu.status() != "running" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // QEMU exits, as it does without the action.
    qemu.ask("quit");
    watch.event("lost");
    assert_eq!(watch.wait().code, 1);
}

#[test]
fn panic_from_before_the_connection_is_dumped_once() {
    if !is_installed() {
        return;
    }
    let options = ["-device", "pvpanic", "-action", "panic=pause"];
    let mut qemu = Qemu::start_with(Memory::Shared, &PANIC, &options);
    qemu.cont();
    qemu.await_event("GUEST_PANICKED");
    let mut watch = Watch::one(&qemu, &["--once"]);
    assert_eq!(watch.event("dump")["cause"], "panic");
    assert!([0, 3].contains(&watch.wait().code));
}

#[test]
fn watchdog_and_reset_are_dumped_if_requested() {
    if !is_installed() {
        return;
    }
    for (code, device, cause) in [
        (&WATCHDOG[..], &["-device", "ib700"][..], "watchdog"),
        (&RESET, &[], "reset"),
    ] {
        let mut qemu = Qemu::start_with(Memory::Shared, code, device);
        let options = ["--once", "--on", cause, "--then", "shutdown"];
        let mut watch = Watch::one(&qemu, &options);
        qemu.cont();
        let event = watch.event("dump");
        assert_eq!(event["cause"], cause);
        assert!(dump(&event).exists());
        assert!([0, 3].contains(&watch.wait().code));
        assert!(qemu.ended());
    }
}

#[test]
fn failing_and_hanging_hooks_are_reported_and_the_action_is_done() {
    if !is_installed() {
        return;
    }
    for (hook, limit, what) in [
        ("exit 7", "60", "exit status: 7"),
        ("sleep 600 & wait", "1", "did not end within 1 s"),
    ] {
        let qemu = &mut panicking(Memory::Shared);
        let options = ["--once", "--hook", hook, "--hook-timeout", limit];
        let mut watch = Watch::one(qemu, &options);
        qemu.cont();
        assert!(dump(&watch.event("dump")).exists());
        let run = watch.wait();
        assert_eq!(run.code, 3, "{}", run.err);
        assert_eq!(run.count("hook-failed"), 1, "{}", run.err);
        assert!(run.err.contains(what), "{}", run.err);
    }
}

/// A guest whose kernel is not in its memory: the outcome states why there is no dump.
#[test]
fn guest_that_cannot_be_dumped_is_reported_to_the_hook() {
    if !is_installed() {
        return;
    }
    let mut qemu = panicking(Memory::Shared);
    fs::create_dir_all(qemu.path("out")).unwrap();
    let other = qemu.path("other");
    let relocated = machine("relocated");
    run([
        "synth".as_ref(),
        relocated.as_os_str(),
        "--out".as_ref(),
        other.as_os_str(),
    ])
    .expect(0);
    let hook = format!("cat > {}", name(&qemu.path("hook")));
    let options = ["--once", "--hook", &hook];
    let sockets = [qemu.path("qmp")];
    let mut watch = Watch::start(&sockets, &other.join("kernel"), &qemu.path("out"), &options);
    watch.event("watching");
    qemu.cont();
    let event = watch.event("dump");
    assert_eq!(event["dump"], Value::Null);
    assert_eq!(event["errors"].as_array().unwrap().len(), 1, "{event:#}");
    let run = watch.wait();
    assert_eq!(run.code, event["exit_code"].as_i64().unwrap() as i32);
    assert_eq!(run.count("program-failed"), 1, "{}", run.err);
    assert!(qemu.path("hook").exists());
}

/// Passes bytes between a TCP client and the Unix socket of QEMU.
fn proxy(socket: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client: TcpStream = client.unwrap();
            let server = UnixStream::connect(&socket).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (server, client);
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    address.to_string()
}

fn take(address: &str, qemu: &Qemu, out: &str, config: &Path) -> Run {
    let output = livecore_with_signals()
        .args(MESSAGES)
        .env("XDG_CONFIG_HOME", config)
        .args([
            "take",
            "--pause=whole",
            "--no-cpu-state",
            "--none",
            "--container",
            "saved",
        ])
        .args(["--qmp", address, "--qmp-timeout", "60", "-k"])
        .arg(kernel(&qemu.path("")))
        .arg("-o")
        .arg(qemu.path(out))
        .output();
    Run::of(output.unwrap())
}

#[test]
fn guests_are_reached_over_tcp_and_by_the_name_of_a_libvirt_domain() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared);
    qemu.cont();
    let address = proxy(qemu.path("qmp"));
    let config = qemu.path("config");
    take(&address, &qemu, "tcp", &config).expect(0);
    let domain = config.join("libvirt/qemu/lib/domain-7-guest");
    fs::create_dir_all(&domain).unwrap();
    std::os::unix::fs::symlink(qemu.path("qmp"), domain.join("monitor.sock")).unwrap();
    take("guest", &qemu, "domain", &config).expect(0);
    let expected = qemu.expected();
    assert!(fs::read(qemu.path("tcp")).unwrap() == expected);
    assert!(fs::read(qemu.path("domain")).unwrap() == expected);
    assert_eq!(qemu.status(), "running");
    // QEMU cannot receive a file over TCP.
    let mut own = Qemu::start(Memory::Own);
    own.cont();
    let refused = take(&proxy(own.path("qmp")), &own, "tcp", &config).expect(1);
    refused.error("qmp-refused");
    assert!(refused.err.contains("share=on"), "{}", refused.err);
    assert_eq!(own.status(), "running");
    assert!(!own.path("tcp").exists());
}

/// Answers the first commands as QEMU does, then misbehaves.
fn peer(path: &Path, answers: usize, fault: &'static [u8], endless: bool) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        if answers > 0 {
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
        }
        for number in 1..answers {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let id = serde_json::from_str::<Value>(&line).unwrap()["id"].clone();
            writeln!(stream, "{{\"return\": {{}}, \"id\": {id}}}").unwrap();
            assert!(number < 3);
        }
        while stream.write_all(fault).is_ok() && endless {}
        let mut rest = Vec::new();
        let _ = lines.read_to_end(&mut rest);
    });
}

#[test]
fn peers_that_are_not_qemu_are_reported_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let machine_dir = dir.path().join("machine");
    fs::create_dir(&out).unwrap();
    let tiny = machine("tiny");
    run([
        "synth".as_ref(),
        tiny.as_os_str(),
        "--out".as_ref(),
        machine_dir.as_os_str(),
    ])
    .expect(0);
    let endless: &[u8] = &[b'x'; 4096];
    let events: &[u8] = b"{\"event\": \"RTC_CHANGE\"}\n";
    for (number, (answers, fault, repeats, id)) in [
        (0, &b""[..], false, "qmp-timeout"),
        (0, b"{\"QMP\": 1\n", false, "qmp-protocol"),
        (0, endless, true, "qmp-protocol"),
        (1, b"[]\n", false, "qmp-protocol"),
        (2, events, true, "qmp-timeout"),
        (
            3,
            b"{\"return\": {\"running\": \"no\"}}\n",
            false,
            "qmp-protocol",
        ),
        (
            3,
            b"{\"error\": {\"desc\": \"no\"}}\n",
            false,
            "qmp-refused",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = dir.path().join(format!("socket{number}"));
        peer(&socket, answers, fault, repeats);
        let options = ["--once", "--qmp-timeout", "1"];
        let kernel = machine_dir.join("kernel");
        let mut watch = Watch::start(&[socket], &kernel, &out, &options);
        if answers == 3 {
            watch.event("watching");
        }
        watch.event("lost");
        let run = watch.wait();
        assert!([1, 2].contains(&run.code), "{number}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{number}: {}", run.err);
        run.error(id);
    }
    assert!(names(&out).is_empty());
}
