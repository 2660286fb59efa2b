//! `livecore mem` on emulated machines: memory, addresses of processes, memory ranges, and changes
//! that other processes see.

mod dump;
mod paddr;
mod ranges;
mod transfer;

use livecore_minidump::PhysAddr;
use std::fs::{self, File};
use std::sync::OnceLock;

use livecore_synth::{Machine, write_out};
use serde_json::Value;

use crate::harness::{MESSAGES, Run, golden, livecore, machine, names, run};
use crate::schema;

/// The builder's data of the tiny machine.
pub(super) fn tiny() -> &'static Machine {
    static TINY: OnceLock<Machine> = OnceLock::new();
    TINY.get_or_init(|| {
        let text = fs::read_to_string(machine("tiny")).unwrap();
        Machine::parse(&text).unwrap()
    })
}

/// The tiny machine, written to files.
pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
}

pub(super) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    write_out(tiny(), dir.path().join("m")).unwrap();
    Fixture { dir }
}

impl Fixture {
    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }

    /// Runs `livecore mem ARGS --image DIR`.
    pub(super) fn mem(&self, args: &[&str]) -> Run {
        let image = self.path("m");
        run(["mem"].iter().chain(args).chain(&["--image", &image]))
    }

    /// Runs it with messages as JSON.
    pub(super) fn mem_messages(&self, args: &[&str]) -> Run {
        self.mem(&[args, &MESSAGES].concat())
    }

    /// Runs it with `--json`, and checks the schema.
    #[track_caller]
    pub(super) fn json(&self, schema: &str, code: i32, args: &[&str]) -> Value {
        let all = args.iter().chain(&["--json"]).copied().collect::<Vec<_>>();
        let answer = serde_json::from_slice(&self.mem(&all).expect(code).out).unwrap();
        schema::check(schema, &answer);
        answer
    }

    /// The current memory in the file.
    pub(super) fn ram(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = File::open(self.path("m/ram")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, at).unwrap();
        bytes
    }
}

/// The memory as the builder made it.
pub(super) fn made(at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    tiny().memory().read(PhysAddr(at), &mut bytes).unwrap();
    bytes
}

pub(super) fn hex(at: u64) -> String {
    format!("{at:#x}")
}

pub(super) fn end_of_ram() -> u64 {
    tiny().memory().ranges().last().unwrap().end.0
}

pub(super) fn symbol(name: &str) -> u64 {
    tiny().truth().symbol(name).unwrap()
}

#[test]
fn help_of_all_operations_matches_the_goldens() {
    for operation in ["read", "write", "kerneldump", "paddr", "ranges"] {
        let text = run(["mem", operation, "--help"]).expect(0);
        golden(&format!("help/mem-{operation}.txt"), text.text());
    }
    for operation in ["list", "set", "clear"] {
        let text = run(["mem", "ranges", operation, "--help"]).expect(0);
        golden(&format!("help/mem-ranges-{operation}.txt"), text.text());
    }
}

#[test]
fn usage_errors_exit_with_64_and_change_nothing() {
    let fixture = fixture();
    let before = fixture.ram(0, 8192);
    for args in [
        &["read", "-1", "4"][..],
        &["read", "0", "-4"],
        &["read", "0", "0x1ffffffffffffffff"],
        &["read", "version", "4"],
        &["read", "0", "17M", "--json"],
        &["read", "0", "4", "--words", "3"],
        &["read", "0", "4", "--endian", "big"],
        &["write", "0x1000", "00"],
        &["write", "0x1000", "--write"],
        &["write", "0x1000", "0", "--write"],
        &["write", "0x1000", "xy", "--write"],
        &["write", "0x1000", " ", "--write"],
        &["write", "0x1000", "0x100", "--words", "1", "--write"],
        &["write", "0x1000", "-1", "--words", "1", "--write"],
        &["write", "0x1000", "00", "--from", "x", "--write"],
        &["write", "version", "00", "--write"],
        &["kerneldump", "--compression", "256"],
        &["kerneldump", "--fd", "x"],
        &["paddr", "0"],
        &["paddr", "--pid", "1"],
        &["paddr", "--pid", "1", "x"],
        &["ranges", "frobnicate"],
        &["ranges", "set", "-b", "0", "-l", "0x1000"],
        &["ranges", "set", "-b", "0", "write-back"],
        &["ranges", "set", "-b", "-1", "-l", "1", "write-back"],
        &["ranges", "set", "-b", "0x", "-l", "1", "write-back"],
        &[
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "-o",
            "eighteen",
            "write-back",
        ],
        &[
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "set-by-firmware",
        ],
        &[
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "write-back",
            "wriet-back",
        ],
        &["ranges", "clear"],
        &["ranges", "clear", "-b", "0"],
        &["ranges", "clear", "-l", "0"],
        &["ranges", "clear", "-o", "me", "-b", "0", "-l", "0"],
    ] {
        let run = fixture.mem(args);
        assert_eq!(run.code, 64, "{args:?}: {}", run.err);
        assert!(run.out.is_empty(), "{args:?}");
        assert!(run.err.starts_with("livecore: "), "{args:?}: {}", run.err);
    }
    assert!(fixture.ram(0, 8192) == before);
    assert_eq!(
        names(&fixture.dir.path().join("m")),
        ["kernel", "machine.json", "ram"]
    );
}

#[test]
fn closed_pipe_exits_with_141() {
    let fixture = fixture();
    let image = fixture.path("m");
    for args in [
        &["read", "0x200000", "4M", "--raw"][..],
        &["read", "0x200000", "4M"],
        &["read", "0x200000", "4M", "--words", "8"],
        &["read", "0", "16", "--json"],
        &["ranges", "list", "-a"],
        &["ranges", "--json"],
        &["paddr", "--pid", "0", "0"],
        &["write", "0x1000", "00", "--write", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = livecore()
            .arg("mem")
            .args(args)
            .args(["--image", &image])
            .stdout(writer)
            .output()
            .unwrap();
        let run = Run::of(output).expect(141);
        assert_eq!(run.err, "", "{args:?}");
    }
}

/// On other systems than FreeBSD, /dev/mem has another interface and is not opened.
#[test]
fn mem_without_a_machine_needs_freebsd() {
    if std::env::consts::OS == "freebsd" {
        return;
    }
    for args in [
        &["read", "0", "16"][..],
        &["write", "0", "00", "--write"],
        &["kerneldump"],
        &["paddr"],
        &["ranges"],
        &["ranges", "set", "-b", "0", "-l", "0x10000", "write-back"],
        &["ranges", "clear", "-o", "me"],
    ] {
        let refused = run([&["mem"], args].concat()).expect(63);
        assert!(refused.err.contains("FreeBSD"), "{}", refused.err);
        assert!(refused.err.contains("--image DIR"), "{}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
}
