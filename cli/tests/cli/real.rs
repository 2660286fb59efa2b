//! A dump that a real kernel wrote, in the directory LIVECORE_REAL_DUMPS.
//!
//! Expected values are from the README of the dump, which were read with LLDB and with libkvm.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::harness::{Run, run, run_json, tool};
use crate::kinds::debugger;
use crate::schema;

pub(crate) struct Real {
    pub(crate) dump: PathBuf,
    /// What the same kernel wrote on another day with `debug.minidump=0`.
    pub(crate) full: PathBuf,
    pub(crate) kernel: PathBuf,
}

/// The dumps and their kernel, unpacked once; `None` with a message if there is no directory.
pub(crate) fn real() -> Option<&'static Real> {
    static REAL: OnceLock<Option<Real>> = OnceLock::new();
    if std::env::var_os("LIVECORE_REAL_DUMPS").is_none() {
        say("skipped: LIVECORE_REAL_DUMPS is not a directory with real dumps");
    }
    REAL.get_or_init(|| {
        let folder = std::env::var_os("LIVECORE_REAL_DUMPS")?;
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real");
        fs::create_dir_all(&dir).unwrap();
        let unpack = |name: &str, len: u64| {
            let to = dir.join(name);
            if to.metadata().is_ok_and(|m| m.len() == len) {
                return to;
            }
            let from = Path::new(&folder).join(name).with_extension("xz");
            let part = to.with_extension(std::process::id().to_string());
            let status = Command::new("xz")
                .args(["-dc"])
                .arg(from)
                .stdout(File::create(&part).unwrap())
                .stderr(Stdio::inherit())
                .status()
                .unwrap();
            assert!(status.success(), "xz {name}");
            assert_eq!(part.metadata().unwrap().len(), len, "{name}");
            fs::rename(part, &to).unwrap();
            to
        };
        Some(Real {
            dump: unpack("vmcore-amd64-minidump", 101_685_248),
            full: unpack("vmcore-amd64-full", 127_043_584),
            kernel: unpack("kernel-amd64", 24_883_128),
        })
    })
    .as_ref()
}

/// Writes a line to standard error without the test harness capturing it.
pub(crate) fn say(line: &str) {
    let line = format!("{line}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Allows one conversion of 100 MB at a time.
fn alone() -> impl Drop {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(real: &Real, place: &str, len: &str) -> Value {
    let read = run([
        "read".as_ref(),
        real.dump.as_os_str(),
        place.as_ref(),
        len.as_ref(),
        "--json".as_ref(),
        "--kernel".as_ref(),
        real.kernel.as_os_str(),
    ]);
    // The kernel file has symbols but no contents, so it is used with a warning.
    let read = read.expect(3);
    assert_eq!(read.err.matches("warning: ").count(), 1, "{}", read.err);
    let answer = serde_json::from_slice(&read.out).unwrap();
    schema::check("read", &answer);
    answer
}

#[test]
fn values_match_other_readers() {
    let Some(real) = real() else { return };
    assert_eq!(read(real, "hz", "4")["bytes"], "64000000");
    assert_eq!(read(real, "dumptid", "4")["bytes"], "3e890100");
    assert_eq!(read(real, "allproc", "8")["bytes"], "28b5c30200f8ffff");
}

#[test]
fn info_identifies_the_dump_and_its_missing_pages() {
    let Some(real) = real() else { return };
    let info = run(["info".as_ref(), real.dump.as_os_str(), "--json".as_ref()]).expect(3);
    let info: Value = serde_json::from_slice(&info.out).unwrap();
    schema::check("info", &info);
    assert_eq!(info["architecture"], "amd64");
    assert_eq!(info["minidump"]["version"], 3);
    assert_eq!(info["container"], "saved");
    assert_eq!(info["header_origin"], "absent");
    assert_eq!(info["short"]["expected"], 107_388_928);
    assert_eq!(info["short"]["actual"], 101_685_248);
}

#[test]
fn verify_warns_and_finds_nothing_broken() {
    let Some(real) = real() else { return };
    let _alone = alone();
    let args = ["verify".as_ref(), real.dump.as_os_str()];
    let report = run(args.into_iter().chain(["--json".as_ref()])).expect(3);
    let report: Value = serde_json::from_slice(&report.out).unwrap();
    assert_eq!(report["reports"][0]["errors"], 0);
    assert_ne!(report["reports"][0]["warnings"], 0);
    run(args.into_iter().chain(["--strict".as_ref()])).expect(2);
    run(args.into_iter().chain(["--quick".as_ref()])).expect(3);
}

#[test]
fn dmesg_of_a_buffer_of_zeros_is_empty_and_warns() {
    let Some(real) = real() else { return };
    let dmesg = run_json(["dmesg".as_ref(), real.dump.as_os_str()]).expect(3);
    assert!(dmesg.out.is_empty());
    assert_eq!(dmesg.count("msgbuf-empty"), 1, "{}", dmesg.err);
}

#[test]
fn missing_pages_are_errors_without_zero_tail() {
    let Some(real) = real() else { return };
    // The last page of dump_avail's last range is the last page of the dump.
    let read = |args: &[&str]| {
        let dump = ["read".as_ref(), real.dump.as_os_str()];
        run(dump.into_iter().chain(args.iter().map(AsRef::as_ref)))
    };
    let end = ["0x7fde000", "16", "--phys"];
    let lost = read(&end).expect(1);
    assert!(lost.err.contains("--zero-tail"), "{}", lost.err);
    assert!(lost.out.is_empty());
    let zeros = read(&[&end[..], &["--zero-tail", "--raw"]].concat()).expect(3);
    assert_eq!(zeros.out, [0; 16]);
    assert!(zeros.err.contains("last 16 bytes"), "{}", zeros.err);
}

#[test]
fn conversion_through_gzip_and_zstd_keeps_the_payload() {
    let Some(real) = real() else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let to = |name: &str| dir.path().join(name);
    let convert = |from: &Path, to: &Path, container: &str| -> Run {
        let args = ["convert", "-q", "--container", container].map(AsRef::as_ref);
        // The dump is short, so there is a warning.
        run(args.into_iter().chain([from.as_os_str(), to.as_os_str()])).expect(3)
    };
    convert(&real.dump, &to("a.gz"), "sealed");
    convert(&to("a.gz"), &to("b.zst"), "sealed");
    convert(&to("b.zst"), &to("c.zst"), "saved");
    convert(&to("c.zst"), &to("d"), "saved");
    let sum = |path: &Path| {
        let line = tool("sha256sum", &["-b"], path);
        String::from_utf8(line).unwrap()[..64].to_string()
    };
    assert_eq!(sum(&to("d")), sum(&real.dump));
    tool("gzip", &["-t"], &to("a.gz"));
    tool("zstd", &["-tq"], &to("b.zst"));
    tool("zstd", &["-tq"], &to("c.zst"));
    tool("zstd", &["-dqf"], &to("b.zst"));
    assert_eq!(sum(&to("b")), sum(&real.dump));
}

/// A core of the real dump; its kernel file has symbols but no functions.
fn core(real: &Real, notes: &str, dir: &Path) -> PathBuf {
    let core = dir.join(notes);
    let args = ["convert", "-q", "--to", "elf", "--notes", notes, "--kernel"].map(AsRef::as_ref);
    let files = [
        real.kernel.as_os_str(),
        real.dump.as_os_str(),
        core.as_os_str(),
    ];
    // The dump is short and its kernel cannot be compared, so there are warnings.
    run(args.into_iter().chain(files)).expect(3);
    core
}

/// Expected output of both debuggers: registers of the crashed thread and of the next, memory.
const VALUES: [&str; 6] = [
    "ffffffff80c09ade",
    "fffffe00798c4748",
    "fffffe00798c4760",
    "fffff80003369380",
    "ffffffff81057988",
    "fffff80002c3b528",
];

#[test]
fn lldb_reads_threads_registers_frames_and_memory_of_the_core() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let core = core(real, "freebsd", dir.path());
    let open = format!(
        "target create {} -c {}",
        real.kernel.display(),
        core.display()
    );
    let printed = debugger(
        "lldb",
        &[
            "--no-lldbinit",
            "--batch",
            "-o",
            &open,
            "-o",
            "thread list",
            "-o",
            "register read rip rsp rbp r15",
            "-o",
            "bt",
            "-o",
            "memory read -s8 -c1 -fx &allproc",
            "-o",
            "thread select 2",
            "-o",
            "register read rip",
        ],
    );
    let Some(printed) = printed else { return };
    assert_eq!(printed.matches("tid = ").count(), 16, "{printed}");
    for value in VALUES {
        assert!(printed.contains(value), "{value}: {printed}");
    }
    for name in [
        "'sysctl (crashed)'",
        "'28 pagedaemon/dom0'",
        "'laundry: dom0'",
    ] {
        assert!(printed.contains(name), "{name}: {printed}");
    }
    // The first nine return addresses along the frame pointers.
    for pc in [
        "80c09916", "80c09d90", "80c09b93", "80c57d91", "80c19e71", "80c192bc", "80c19933",
        "80c1977f", "8108ba8c",
    ] {
        assert!(
            printed.contains(&format!("0xffffffff{pc}")),
            "{pc}: {printed}"
        );
    }
}

#[test]
fn gdb_reads_threads_registers_and_memory_of_the_core() {
    let Some(real) = real() else { return };
    let dir = tempfile::tempdir().unwrap();
    let core = core(real, "linux", dir.path());
    let (file, open) = (
        format!("file {}", real.kernel.display()),
        format!("core {}", core.display()),
    );
    let printed = debugger(
        "gdb-multiarch",
        &[
            "-nx",
            "-batch",
            "-ex",
            "set osabi GNU/Linux",
            "-ex",
            &file,
            "-ex",
            &open,
            "-ex",
            "info threads",
            "-ex",
            "p/x $rsp",
            "-ex",
            "p/x $rbp",
            "-ex",
            "p/x $r15",
            "-ex",
            "x/gx &allproc",
        ],
    );
    let Some(printed) = printed else { return };
    assert_eq!(printed.matches("[New LWP ").count(), 16, "{printed}");
    for value in VALUES {
        assert!(printed.contains(value), "{value}: {printed}");
    }
}

#[test]
fn threads_and_registers_match_lldb_raw_and_compressed() {
    let Some(real) = real() else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("a.zst");
    let args = ["convert".as_ref(), "-q".as_ref(), real.dump.as_os_str()];
    run(args.into_iter().chain([packed.as_os_str()])).expect(3);
    for dump in [&real.dump, &packed] {
        let ask = |verb: &str| -> Value {
            let answer = run([
                verb.as_ref(),
                dump.as_os_str(),
                "--kernel".as_ref(),
                real.kernel.as_os_str(),
                "--json".as_ref(),
            ]);
            // The kernel file has symbols but no contents, so it is used with a warning.
            let answer: Value = serde_json::from_slice(&answer.expect(3).out).unwrap();
            schema::check(verb, &answer);
            assert_eq!(answer["problems"], Value::Array(Vec::new()));
            answer
        };
        let threads = ask("threads");
        let threads = threads["threads"].as_array().unwrap();
        assert_eq!(threads.len(), 16);
        let titles: Vec<_> = threads.iter().map(|t| t["title"].as_str()).collect();
        assert_eq!(titles[0], Some("(pid 800) sysctl (crashed)"));
        assert_eq!(titles[1], Some("(pid 28) pagedaemon/dom0 (on CPU 4)"));
        assert_eq!(titles[2], Some("(pid 28) pagedaemon/laundry: dom0"));
        for (thread, register, value) in [
            (0, "rip", "0xffffffff80c09ade"),
            (0, "rsp", "0xfffffe00798c4748"),
            (0, "rbp", "0xfffffe00798c4760"),
            (0, "rbx", "0x0"),
            (0, "r12", "0xfffffe0045b11c00"),
            (0, "r13", "0xfffff800033693a8"),
            (0, "r14", "0x0"),
            (0, "r15", "0xfffff80003369380"),
            (1, "rip", "0xffffffff81057988"),
            (1, "rsp", "0xfffffe00008e2de8"),
            (1, "rbp", "0xfffffe00008e2e00"),
        ] {
            assert_eq!(threads[thread]["registers"][register], value, "{register}");
        }
        assert_eq!(threads[0]["registers"]["rax"], Value::Null);
        let frames = threads[0]["frames"].as_array().unwrap();
        let callers: Vec<_> = frames[1..].iter().map(|f| f["pc"].as_str()).collect();
        let expected = [
            "0xffffffff80c09916",
            "0xffffffff80c09d90",
            "0xffffffff80c09b93",
            "0xffffffff80c57d91",
            "0xffffffff80c19e71",
            "0xffffffff80c192bc",
            "0xffffffff80c19933",
            "0xffffffff80c1977f",
            "0xffffffff8108ba8c",
            "0xffffffff810620ce",
        ];
        assert_eq!(callers, expected.map(Some));

        let listed = ask("ps");
        let listed: Vec<_> = listed["processes"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|p| p["threads"].as_array().unwrap())
            .map(|t| t["title"].as_str())
            .collect();
        assert_eq!(listed, titles);
    }
}

/// The kernel file has no contents, so virtual addresses need a carried minidump.
#[test]
fn full_dump_and_core_of_the_real_dump_have_the_same_contents() {
    let Some(real) = real() else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let kernel = real.kernel.to_str().unwrap();
    let dump = real.dump.to_str().unwrap();
    let answer = |verb: &str, dump: &str| {
        let run = run([verb, "-q", "--json", dump, "--kernel", kernel]).expect(3);
        let mut answer: Value = serde_json::from_slice(&run.out).unwrap();
        schema::check(verb, &answer);
        answer.as_object_mut().unwrap().remove("dump");
        answer
    };
    let expected = ["ps", "threads"].map(|verb| answer(verb, dump));
    assert_eq!(expected[1]["threads"].as_array().unwrap().len(), 16);
    for (name, to) in [("full.zst", "full"), ("core.zst", "elf")] {
        let made = dir.path().join(name);
        let made = made.to_str().unwrap();
        let args = ["convert", "-q", "--to", to, "--kernel", kernel, dump, made];
        run(args).expect(3);
        assert_eq!(["ps", "threads"].map(|verb| answer(verb, made)), expected);
        let found = run(["compare", "--json", dump, made]).expect(0);
        let found: Value = serde_json::from_str(found.text()).unwrap();
        assert_eq!(found["answer"], "same", "{found:#}");
    }
}

/// The kernel file has only the symbols for debuggers: no `dump_avail`, no `version`.
#[test]
fn a_real_full_dump_becomes_a_core_by_its_page_tables() {
    let Some(real) = real() else { return };
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let core = dir.path().join("core");
    let args = ["convert", "--to", "elf", "--kernel"].map(AsRef::as_ref);
    let files = [&real.kernel, &real.full, &core].map(|p| p.as_os_str());
    let run = run_json(args.into_iter().chain(files)).expect(3);
    assert_eq!(run.count("core-only"), 1, "{}", run.err);
    assert!(run.err.contains("dump_avail"), "{}", run.err);
    let open = format!(
        "target create {} -c {}",
        real.kernel.display(),
        core.display()
    );
    let args = ["--no-lldbinit", "--batch", "-o", &open, "-o"];
    let Some(said) = debugger("lldb", &[&args[..], &["thread backtrace all"]].concat()) else {
        return;
    };
    // lldb ends a backtrace at code that the core does not map, and the makers of this dump left out
    // page tables of the kernel's text. Its own test of the dump has the larger numbers.
    for (thread, frames) in [(1, 10..=11), (2, 5..=13), (11, 3..=4)] {
        let found = frames_of(&said, thread);
        assert!(frames.contains(&found), "{thread}: {found}: {said}");
    }
}

/// Frames that lldb's `thread backtrace all` lists for the thread with this number.
pub(crate) fn frames_of(said: &str, thread: usize) -> usize {
    let mut current = 0;
    let mut frames = BTreeSet::new();
    for line in said.lines().map(|l| l.trim_start_matches(['*', ' '])) {
        if let Some(rest) = line.strip_prefix("thread #") {
            let number = rest.split([',', ':']).next();
            current = number.and_then(|n| n.parse().ok()).unwrap_or(0);
        } else if let (true, Some(frame)) = (current == thread, line.strip_prefix("frame #")) {
            // lldb names the selected thread's first frame when it stops, too.
            frames.insert(frame.split(':').next());
        }
    }
    frames.len()
}
