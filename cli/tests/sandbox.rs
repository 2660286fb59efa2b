//! The sandbox, tried from inside: every verb refuses files, sockets and programs that it was not given.
//!
//! `cargo test -p livecore --features sandbox-probe --test sandbox`

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;
use livecore_tests::mkelf;

/// What the probe tries on each of three threads.
const TRIED: usize = 17;

fn livecore(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livecore"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command.env_remove("DEBUGINFOD_URLS");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether the system has the whole sandbox; says what it lacks.
fn is_whole(dir: &Path) -> bool {
    let output = livecore(&["--version", "-v"], dir).output().unwrap();
    let printed = text(&output.stdout);
    assert!(printed.lines().count() >= 2, "{printed}");
    let lacks = printed.lines().find(|line| line.contains("not active"));
    if let Some(line) = lacks {
        let _ = writeln!(std::io::stderr(), "skipped: {line}");
    }
    lacks.is_none()
}

/// A directory with a machine and dumps in it, and another one that no verb uses.
struct Place {
    _dir: tempfile::TempDir,
    inside: PathBuf,
    outside: PathBuf,
    _socket: UnixListener,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for path in [&inside, &outside, &inside.join("tmp"), &inside.join("new")] {
            fs::create_dir(path).unwrap();
        }
        let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/machines/tiny.toml");
        fs::copy(machine, inside.join("tiny.toml")).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        for thread in ["main", "pool", "new"] {
            fs::write(outside.join(format!("{thread}.victim")), "x").unwrap();
        }
        let mut ctf = Ctf::new(3, false);
        ctf.integer("int", 4);
        let kernel = mkelf::build(
            "elf amd64\nsection .data 0xffffffff81000000 hex 46 72 65 65 00\n\
             symbol version 0xffffffff81000000 size 5 object",
        )
        .unwrap();
        let kernel = Elf::new(kernel).add(".SUNW_ctf", &ctf.bytes(true), false);
        fs::write(inside.join("kernel.types"), kernel.bytes()).unwrap();
        let socket = UnixListener::bind(outside.join("socket")).unwrap();
        let place = Self {
            _dir: dir,
            inside,
            outside,
            _socket: socket,
        };
        for args in [
            &["synth", "tiny.toml", "--out", "machine"][..],
            &["take", "--image", "machine", "-o", "vmcore.0.zst"],
            &["take", "--image", "machine", "-o", "vmcore.1"],
        ] {
            let output = place.run(args, false);
            assert!(
                output.status.success(),
                "{args:?}: {}",
                text(&output.stderr)
            );
        }
        place
    }

    fn run(&self, args: &[&str], probe: bool) -> Output {
        self.command(args, probe).output().unwrap()
    }

    fn command(&self, args: &[&str], probe: bool) -> Command {
        let mut command = livecore(args, &self.inside);
        command.env("TMPDIR", self.inside.join("tmp"));
        command.env("LIVECORE_SANDBOX", "try");
        if probe {
            command.env("LIVECORE_SANDBOX_PROBE", &self.outside);
            command.env("LIVECORE_SANDBOX", "require");
        }
        command
    }

    /// Nothing outside has changed.
    fn check(&self) {
        assert_eq!(fs::read(self.outside.join("secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 5);
    }
}

const VERBS: &[&[&str]] = &[
    &["info", "vmcore.0.zst"],
    &["verify", "vmcore.0.zst", "vmcore.1"],
    &["verify", "--deep", "--kernel", "machine/kernel", "vmcore.1"],
    &["compare", "vmcore.0.zst", "vmcore.1"],
    &["convert", "vmcore.0.zst", "converted.gz"],
    &[
        "convert",
        "--to",
        "elf",
        "--kernel",
        "machine/kernel",
        "vmcore.1",
        "core",
    ],
    &["salvage", "vmcore.1", "salvaged.zst"],
    &["export", "vmcore.0.zst", "exported"],
    &["export", "vmcore.0.zst", "new/"],
    &["read", "vmcore.1", "hz", "4", "--kernel", "machine/kernel"],
    &["dmesg", "vmcore.0.zst"],
    &["ps", "vmcore.1", "--kernel", "machine/kernel"],
    &["threads", "vmcore.1", "--kernel-path", "machine"],
    &["triage", "vmcore.0.zst"],
    &["isf", "kernel.types", "-o", "kernel.json"],
    &["serve", "--stdio", "vmcore.0.zst"],
    &["synth", "tiny.toml", "--out", "other/machine"],
    &["take", "--machine", "tiny.toml", "-o", "taken.zst"],
    &[
        "take",
        "--image",
        "machine/ram",
        "--kernel",
        "machine/kernel",
        "-o",
        "new",
    ],
    &["mem", "read", "--image", "machine", "0x1000", "64"],
    &["mem", "ranges", "list", "--image", "machine"],
    &[
        "mem", "write", "--image", "machine", "0x1000", "00", "--write",
    ],
];

#[test]
fn every_verb_refuses_what_it_was_not_given_on_every_thread() {
    let place = Place::new();
    if !is_whole(&place.inside) {
        return;
    }
    for args in VERBS {
        let plain = place.run(args, false);
        for path in [
            "converted.gz",
            "core",
            "salvaged.zst",
            "exported",
            "taken.zst",
            "kernel.json",
        ] {
            let _ = fs::remove_file(place.inside.join(path));
        }
        for path in ["new", "other"] {
            let _ = fs::remove_dir_all(place.inside.join(path));
        }
        fs::create_dir(place.inside.join("new")).unwrap();
        let probed = place.run(args, true);
        let printed = text(&probed.stderr);
        let lines: Vec<_> = printed
            .lines()
            .filter(|line| line.starts_with("probe: "))
            .collect();
        assert_eq!(lines.len(), 3 * TRIED, "{args:?}: {printed}");
        for line in lines {
            assert!(line.ends_with(": refused"), "{args:?}: {line}");
        }
        place.check();
        // The verb's own work is not hindered.
        assert_eq!(
            probed.status.code(),
            plain.status.code(),
            "{args:?}: {printed}"
        );
        assert_eq!(probed.status.code(), Some(0), "{args:?}: {printed}");
    }
}

/// Refused to every verb, and to the programs that it runs.
const SYSTEM: [&str; 3] = ["change the root", "replace the root", "set the clock"];

/// Verbs that run other programs or read files that they cannot name in advance, and what they are
/// refused in addition to [`SYSTEM`].
const PARTIAL: &[(&[&str], &[&str])] = &[
    (&["gdb", "--debugger", "/bin/true", "vmcore.1"], &[]),
    (&["kgdb", "--program", "/bin/true", "vmcore.1"], &[]),
    (
        &["take", "--qmp", "no.socket", "-o", "taken.zst"],
        &[
            "write",
            "truncate",
            "create",
            "make a directory",
            "link",
            "rename",
            "remove",
            "connect to TCP",
            "listen",
            "run",
        ],
    ),
    (
        &["take", "--machine", "compiled.toml", "-o", "taken.zst"],
        &["connect to a Unix socket", "connect to TCP", "listen"],
    ),
];

#[test]
fn verbs_that_run_programs_refuse_what_they_do_not_need() {
    for (args, more) in PARTIAL {
        // An operation that is permitted changes the files.
        let place = Place::new();
        if !is_whole(&place.inside) {
            return;
        }
        let compiled = "seed = 1\n[memory]\nsize = \"16 MiB\"\n[kernel]\nkind = \"compiled\"\n";
        fs::write(place.inside.join("compiled.toml"), compiled).unwrap();
        let probed = place.run(args, true);
        let printed = text(&probed.stderr);
        let refused: BTreeSet<_> = printed
            .lines()
            .filter_map(|line| {
                line.strip_prefix("probe: main: ")?
                    .strip_suffix(": refused")
            })
            .collect();
        let expected: BTreeSet<_> = SYSTEM.iter().chain(*more).copied().collect();
        assert_eq!(refused, expected, "{args:?}: {printed}");
        // Threads that are started later have the same restrictions.
        for thread in ["pool", "new"] {
            for operation in &expected {
                let line = format!("probe: {thread}: {operation}: refused");
                assert!(printed.contains(&line), "{args:?}: {line}: {printed}");
            }
        }
    }
}

/// With `DEBUGINFOD_URLS`, verbs that search for a kernel can connect to other hosts, and write their
/// directory in the cache. Other verbs can do no more than without it.
#[test]
fn downloads_open_connections_for_verbs_that_search_for_kernels() {
    let place = Place::new();
    if !is_whole(&place.inside) {
        return;
    }
    let run = |args: &[&str]| {
        let mut command = place.command(args, true);
        // No server uses this port.
        command.env("DEBUGINFOD_URLS", "http://127.0.0.1:9");
        command.env("XDG_CACHE_HOME", place.inside.join("cache"));
        let printed = text(&command.output().unwrap().stderr);
        let lines = printed.lines().filter(|line| line.starts_with("probe: "));
        let outcomes: Vec<_> = lines.map(str::to_owned).collect();
        assert_eq!(outcomes.len(), 3 * TRIED, "{args:?}: {printed}");
        outcomes
    };
    for args in [
        &["info", "vmcore.0.zst"][..],
        &["verify", "vmcore.1"],
        &["compare", "vmcore.0.zst", "vmcore.1"],
    ] {
        for line in run(args) {
            assert!(line.ends_with(": refused"), "{args:?}: {line}");
        }
    }
    assert!(!place.inside.join("cache/livecore/debuginfod").exists());
    for line in run(&["triage", "vmcore.0.zst"]) {
        // The probe connects to the same port.
        let is_tcp = line.contains(": connect to TCP: ");
        assert_eq!(
            line.ends_with("Connection refused (os error 111)"),
            is_tcp,
            "{line}"
        );
        // Landlock restricts Unix sockets since its ABI 9.
        let is_unix = line.contains(": connect to a Unix socket: ");
        assert!(is_tcp || is_unix || line.ends_with(": refused"), "{line}");
    }
    assert!(place.inside.join("cache/livecore/debuginfod").is_dir());
    place.check();
}

#[test]
fn socket_that_is_served_is_open_and_others_are_refused() {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::net::UnixStream;
    let place = Place::new();
    if !is_whole(&place.inside) {
        return;
    }
    let socket = place.inside.join("gdb.sock");
    let args = ["serve", "--unix", "gdb.sock", "--once", "vmcore.0.zst"];
    let mut child = livecore(&args, &place.inside)
        .env("LIVECORE_SANDBOX_PROBE", &place.outside)
        .env("LIVECORE_SANDBOX", "require")
        .env("TMPDIR", place.inside.join("tmp"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "listening unix:gdb.sock\n");
    let mut debugger = UnixStream::connect(&socket).unwrap();
    debugger.write_all(b"+$qAttached#8f").unwrap();
    let mut answer = [0; 6];
    debugger.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"+$1#31");
    drop(debugger);
    let output = child.wait_with_output().unwrap();
    let printed = text(&output.stderr);
    let refused = printed.lines().filter(|line| line.ends_with(": refused"));
    assert_eq!(refused.count(), 3 * TRIED, "{printed}");
    assert!(output.status.success(), "{printed}");
    assert!(!socket.exists());
    place.check();
}

/// The sockets of `netdump` answer; others are refused.
#[test]
fn sockets_for_network_dumps_are_open_and_others_are_refused() {
    use livecore_tests::netdump::{HERALD, VMCORE, message};
    use std::io::{BufRead, BufReader};
    let place = Place::new();
    if !is_whole(&place.inside) {
        return;
    }
    let args = [
        "netdump",
        "--listen",
        "127.0.0.1:0",
        "--out",
        "new",
        "--once",
        "--timeout",
        "1",
    ];
    let mut child = livecore(&args, &place.inside)
        .env("LIVECORE_SANDBOX_PROBE", &place.outside)
        .env("LIVECORE_SANDBOX", "require")
        .env("TMPDIR", place.inside.join("tmp"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening ").unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let timeout = std::time::Duration::from_secs(30);
    socket.set_read_timeout(Some(timeout)).unwrap();
    for packet in [message(HERALD, 1, 0, b""), message(VMCORE, 2, 0, b"data")] {
        socket.send_to(&packet, address).unwrap();
        socket.recv_from(&mut [0; 4]).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let printed = text(&output.stderr);
    let refused = printed.lines().filter(|line| line.ends_with(": refused"));
    assert_eq!(refused.count(), 3 * TRIED, "{printed}");
    assert_eq!(output.status.code(), Some(2), "{printed}");
    let kept = fs::read_dir(place.inside.join("new")).unwrap().flatten();
    let mut kept = kept.map(|entry| fs::read(entry.path()));
    assert!(kept.any(|bytes| bytes.is_ok_and(|bytes| bytes == b"data")));
    place.check();
}

#[test]
fn without_the_sandbox_the_same_is_allowed() {
    let place = Place::new();
    for (args, value) in [
        (&["--no-sandbox", "info", "vmcore.0.zst"][..], "require"),
        (&["info", "vmcore.0.zst"], "off"),
    ] {
        let output = livecore(args, &place.inside)
            .env("LIVECORE_SANDBOX_PROBE", &place.outside)
            .env("LIVECORE_SANDBOX", value)
            .output()
            .unwrap();
        let printed = text(&output.stderr);
        assert!(printed.contains("probe: pool: list: ALLOWED"), "{printed}");
        assert!(printed.contains("probe: pool: run: ALLOWED"), "{printed}");
        fs::write(place.outside.join("secret"), "secret").unwrap();
    }
    let output = livecore(&["info", "vmcore.0.zst"], &place.inside)
        .env("LIVECORE_SANDBOX", "maybe")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        text(&output.stderr),
        "livecore: LIVECORE_SANDBOX is maybe, expected require, try or off\n"
    );
}
