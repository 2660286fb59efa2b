//! Conversions between kinds of dumps, debuggers on the results, and dumps for kgdb and crashinfo.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use livecore_synth::Machine;
use serde_json::Value;

use crate::every_kind::full_dump;
use crate::harness::{livecore_with_signals, machine, names, run, run_json};
use crate::schema;

/// A machine in a directory with its dump and its kernel.
struct Made {
    dir: tempfile::TempDir,
    truth: Machine,
}

impl Made {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_string()
    }
}

fn make(name: &str) -> Made {
    let text = fs::read_to_string(machine(name)).unwrap();
    let truth = Machine::parse(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let made = Made { dir, truth };
    let description = machine(name);
    let description = description.to_str().unwrap();
    run(["synth", "-q", description, "--out", &made.path("machine")]).expect(0);
    let dump = made.path("vmcore.7.zst");
    run(["take", "-q", "--machine", description, "-o", &dump]).expect(0);
    let plain = made.path("payload");
    run([
        "convert",
        "-q",
        &dump,
        &plain,
        "--none",
        "--container",
        "saved",
    ])
    .expect(0);
    made
}

fn small() -> &'static Made {
    static SMALL: OnceLock<Made> = OnceLock::new();
    SMALL.get_or_init(|| make("small"))
}

/// `dumpsys_write_aux_headers` of 15.0: KERNBASE, `kernphys` and KERNLOAD in the first program header, in
/// which libkvm looks for the kernel.
#[test]
fn full_dump_from_a_minidump_of_amd64_states_where_the_kernel_is() {
    for (name, kernphys) in [("small", 0x20_0000), ("relocated", 0x1a0_0000)] {
        let made = make(name);
        let full = made.path("converted");
        run([
            "convert",
            "-q",
            "--to",
            "full",
            &made.path("vmcore.7.zst"),
            &full,
            "--none",
        ])
        .expect(0);
        let bytes = fs::read(&full).unwrap();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        // Program headers of ELF-64: type and flags, offset, vaddr, paddr, filesz, memsz, align.
        let at = word(32) as usize;
        let fields = [0, 8, 16, 24, 32, 40, 48].map(|offset| word(at + offset));
        let expected = [
            4 << 32 | 0x6fb5_d000,
            0,
            0xffff_ffff_8000_0000,
            kernphys,
            0,
            0,
            0x20_0000,
        ];
        assert_eq!(fields, expected, "{name}: {fields:#x?}");
        run(["verify", &full]).expect(0);
    }
}

#[test]
fn full_dump_is_read_at_both_kinds_of_address_and_converts_to_the_minidump() {
    for name in ["small", "relocated", "la57"] {
        let owned;
        let made = if name == "small" {
            small()
        } else {
            owned = make(name);
            &owned
        };
        let (full, kernel) = (made.path("full"), made.path("machine/kernel"));
        full_dump(Path::new(&made.path("machine")), (2, 62), Path::new(&full));
        let info = run(["info", "--json", &full]).expect(0);
        let info: Value = serde_json::from_slice(&info.out).unwrap();
        schema::check("info-full", &info);
        assert_eq!(info["kind"], "full");
        run(["info", &full]).expect(0);

        let read = |args: &[&str]| run(["read", "--raw"].iter().chain(args));
        let dump = made.path("vmcore.7.zst");
        for symbol in ["version", "hz", "allproc"] {
            let of_full = read(&[&full, symbol, "8", "--kernel", &kernel]).expect(0);
            let of_mini = read(&[&dump, symbol, "8", "--kernel", &kernel]).expect(0);
            assert_eq!(of_full.out, of_mini.out, "{name} {symbol}");
        }
        let ram = fs::read(made.path("machine/ram")).unwrap();
        let page = read(&[&full, "0x200000", "4K", "--phys"]).expect(0);
        assert!(page.out == ram[0x20_0000..0x20_1000], "{name}");
        // Next to its kernel the dump needs no option; elsewhere it does.
        let elsewhere = tempfile::tempdir().unwrap();
        let alone = elsewhere.path().join("full");
        fs::hard_link(&full, &alone).unwrap();
        let alone = alone.to_str().unwrap();
        read(&[&full, "0xffffffff80200000", "8"]).expect(0);
        read(&[alone, "0xffffffff80200000", "8"]).expect(63);
        read(&[&full, "0x7ffff0000000", "8", "--phys"]).expect(1);

        let dmesg = run(["dmesg", &full, "--kernel", &kernel]).expect(0);
        assert_eq!(dmesg.out, run(["dmesg", &dump]).expect(0).out, "{name}");
        run(["dmesg", alone]).expect(63);
        run(["ps", alone]).expect(1);

        // The expected minidump is taken from the machine itself.
        let mini = made.path("mini");
        let args = [
            "convert", "-q", "-f", "--to", "minidump", "--kernel", &kernel,
        ];
        let files = [&*full, &*mini, "--none", "--container", "saved"];
        run(args.iter().chain(&files)).expect(0);
        let expected = fs::read(made.path("payload")).unwrap();
        assert!(fs::read(&mini).unwrap() == expected, "{name}");
        // Compression and decompression preserve it.
        let (packed, back) = (made.path("full.zst"), made.path("back"));
        run(["convert", "-q", "-f", &full, &packed]).expect(0);
        run(["export", "-q", "-f", &packed, &back]).expect(0);
        assert!(
            fs::read(&back).unwrap() == fs::read(&full).unwrap(),
            "{name}"
        );
        run([
            "convert",
            "-q",
            "--to",
            "minidump",
            alone,
            &made.path("none"),
        ])
        .expect(63);
        for file in [full, mini, packed, back] {
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn elf_core_converts_back_and_every_verb_reads_it() {
    let made = small();
    let (dump, kernel) = (made.path("vmcore.7.zst"), made.path("machine/kernel"));
    let expected = fs::read(made.path("payload")).unwrap();
    for (name, notes) in [("core", "freebsd"), ("core.zst", "linux")] {
        let core = made.path(name);
        run([
            "convert", "-q", "--to", "elf", "--notes", notes, "--kernel", &kernel, &dump, &core,
        ])
        .expect(0);
        let back = made.path("core-back");
        run([
            "convert",
            "-q",
            "-f",
            "--to",
            "minidump",
            &core,
            &back,
            "--none",
            "--container",
            "saved",
        ])
        .expect(0);
        assert!(fs::read(&back).unwrap() == expected, "{notes}");
        let version = ["read", "--raw", "version", "64", "--kernel"];
        let of = |file: &str| {
            let args = [
                version[0], version[1], file, version[2], version[3], version[4], &kernel,
            ];
            run(args).expect(0).out
        };
        assert_eq!(of(&core), of(&dump));
        let info = run(["info", "--json", &core]).expect(0);
        let info: Value = serde_json::from_slice(&info.out).unwrap();
        schema::check("info", &info);
        assert_eq!(info["header_origin"], "elf-note");
        fs::remove_file(core).unwrap();
    }
    // Streaming writes the same bytes.
    let to = ["convert", "-q", "--to", "elf", "--kernel", &kernel, &dump];
    let streamed = run(to.iter().chain(&["-"])).expect(0).out;
    let core = made.path("core-file");
    run(to.iter().chain(&[&*core])).expect(0);
    assert!(fs::read(&core).unwrap() == streamed);
    run(["convert", "--notes", "linux", "--to", "full", &dump, "x"]).expect(64);
}

/// The kernel `kernel` with its symbols renamed, except those in `kept`.
fn kernel_with_symbols(kernel: &str, kept: &[&[u8]]) -> Vec<u8> {
    let mut elf = fs::read(kernel).unwrap();
    let number = |at: usize, len: usize| {
        let bytes = elf[at..at + len].iter().rev();
        bytes.fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    let (table, count) = (number(40, 8), number(60, 2));
    let section = |i: usize| table + 64 * i;
    let symbols = (0..count).map(section).find(|at| number(at + 4, 4) == 2);
    let symbols = symbols.unwrap();
    let strings = number(section(number(symbols + 40, 4)) + 24, 8);
    let (first, len) = (number(symbols + 24, 8), number(symbols + 32, 8));
    let names = (first..first + len).step_by(24).map(|at| number(at, 4));
    for name in names.collect::<Vec<_>>() {
        let at = strings + name;
        let end = elf[at..].iter().position(|byte| *byte == 0).unwrap();
        if !kept.contains(&&elf[at..at + end]) && end > 0 {
            elf[at] = b'~';
        }
    }
    elf
}

#[test]
fn elf_core_of_a_full_dump_needs_page_tables_only() {
    let made = small();
    let (full, kernel) = (made.path("bare-full"), made.path("bare-kernel"));
    full_dump(Path::new(&made.path("machine")), (2, 62), Path::new(&full));
    let own = made.path("machine/kernel");
    fs::write(
        &kernel,
        kernel_with_symbols(&own, &[b"kernbase", b"KPML4phys"]),
    )
    .unwrap();
    let core = made.path("bare-core");
    let run = run_json(["convert", "--to", "elf", "--kernel", &kernel, &full, &core]).expect(3);
    let warning = &run.warnings(&["kernel-not-compared", "kernel-data"])[0]["message"];
    assert!(warning.as_str().unwrap().contains("`version`"), "{warning}");
    assert_eq!(run.count("core-only"), 1, "{}", run.err);
    assert!(run.err.contains("dump_avail"), "{}", run.err);
    // The kernel's text at its address, as in the machine's memory.
    let core = fs::read(core).unwrap();
    let number = |at: usize, len: usize| {
        let bytes = core[at..at + len].iter().rev();
        bytes.fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    let headers = (0..number(56, 2)).map(|i| (number(32, 8) + 56 * i) as usize);
    let text = 0xffff_ffff_8020_0000;
    let mut mapped = headers.filter(|at| {
        let (address, len) = (number(at + 16, 8), number(at + 32, 8));
        number(*at, 4) == 1 && (address..address + len).contains(&text)
    });
    let segment = mapped.next().unwrap();
    let at = (number(segment + 8, 8) + text - number(segment + 16, 8)) as usize;
    let ram = fs::read(made.path("machine/ram")).unwrap();
    assert!(core[at..at + 4096] == ram[0x20_0000..0x20_1000]);
}

/// The output of a debugger, or `None` with a message if it is not installed.
pub(crate) fn debugger(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            say(&format!("skipped: {program} is not installed"));
            return None;
        }
        Err(e) => panic!("{program}: {e}"),
    };
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(out + &String::from_utf8_lossy(&output.stderr))
}

/// Writes a line to standard error without the test harness capturing it.
fn say(line: &str) {
    let line = format!("{line}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// The expected facts of a machine: thread ids and memory.
fn expected(made: &Made) -> (Vec<u32>, String) {
    let threads: Vec<u32> = made.truth.truth().threads.iter().map(|t| t.tid).collect();
    let read = run([
        "read",
        "--json",
        &made.path("vmcore.7.zst"),
        "allproc",
        "8",
        "--kernel",
        &made.path("machine/kernel"),
    ]);
    let read: Value = serde_json::from_slice(&read.expect(0).out).unwrap();
    let bytes = read["bytes"].as_str().unwrap();
    let word = (0..8).rev().map(|i| &bytes[2 * i..2 * i + 2]).collect();
    (threads, word)
}

#[test]
fn lldb_opens_a_core_with_freebsd_notes() {
    let made = small();
    let (dump, kernel) = (made.path("vmcore.7.zst"), made.path("machine/kernel"));
    let core = made.path("lldb-core");
    run([
        "convert", "-q", "--to", "elf", "--kernel", &kernel, &dump, &core,
    ])
    .expect(0);
    let open = format!("target create {kernel} -c {core}");
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
            "bt",
            "-o",
            "memory read -s8 -c1 -fx &allproc",
            "-o",
            "memory read 0xffffffff00000000",
        ],
    );
    let Some(printed) = printed else { return };
    let (threads, allproc) = expected(made);
    for tid in &threads {
        assert!(
            printed.contains(&format!("tid = {tid}, ")),
            "{tid}: {printed}"
        );
    }
    assert!(printed.contains(&format!("0x{allproc}")), "{printed}");
    assert!(printed.contains("* thread #1"), "{printed}");
    assert!(printed.contains("(crashed)"), "{printed}");
    assert!(printed.contains("doadump"), "{printed}");
    // lldb prints `ADDRESS: BYTES` of memory that it can read.
    assert!(printed.contains("0xffffffff00000000"), "{printed}");
    assert!(!printed.contains("0xffffffff00000000: "), "{printed}");
}

#[test]
fn gdb_opens_a_core_with_linux_notes() {
    let made = small();
    let (dump, kernel) = (made.path("vmcore.7.zst"), made.path("machine/kernel"));
    let core = made.path("gdb-core");
    run([
        "convert", "-q", "--to", "elf", "--notes", "linux", "--kernel", &kernel, &dump, &core,
    ])
    .expect(0);
    let (file, open) = (format!("file {kernel}"), format!("core {core}"));
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
            "x/gx &allproc",
            "-ex",
            "x/gx 0xffffffff00000000",
        ],
    );
    let Some(printed) = printed else { return };
    let (threads, allproc) = expected(made);
    for tid in &threads {
        assert!(printed.contains(&format!("LWP {tid}")), "{tid}: {printed}");
    }
    assert!(printed.contains(&format!("0x{allproc}")), "{printed}");
    assert!(printed.contains("doadump"), "{printed}");
    assert!(
        printed.contains("Cannot access memory at address 0xffffffff00000000"),
        "{printed}"
    );
}

/// Creates a shell script for `--program`.
fn fake(dir: &Path, name: &str, lines: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn kgdb_gets_an_unpacked_dump_that_is_removed_afterwards() {
    let made = small();
    let (dump, kernel) = (made.path("vmcore.7.zst"), made.path("machine/kernel"));
    let dir = tempfile::tempdir().unwrap();
    let spool = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let program = fake(
        dir.path(),
        "kgdb",
        &format!(
            "cp \"$3\" {0}/copy; stat -c %a \"$(dirname \"$3\")\" > {1}; echo \"$1 $2\" >> {1}",
            dir.path().display(),
            seen.display()
        ),
    );
    let place = spool.path().to_str().unwrap();
    let args = [
        "kgdb",
        "-q",
        &dump,
        "--kernel",
        &kernel,
        "--program",
        program.to_str().unwrap(),
        "--dir",
        place,
        "--",
        "-q",
    ];
    run(args).expect(0);
    assert!(fs::read(dir.path().join("copy")).unwrap() == fs::read(made.path("payload")).unwrap());
    assert_eq!(
        fs::read_to_string(&seen).unwrap(),
        format!("700\n-q {kernel}\n")
    );
    assert!(names(spool.path()).is_empty());

    for (lines, code) in [("exit 3", 1), ("kill -SEGV $$", 1)] {
        let program = fake(dir.path(), "broken", lines);
        let program = program.to_str().unwrap();
        run(["kgdb", "-q", &dump, "--program", program, "--dir", place]).expect(code);
        assert!(names(spool.path()).is_empty(), "{lines}");
    }
    run(["kgdb", "-q", &dump, "--program", "/no/such", "--dir", place]).expect(1);
    assert!(names(spool.path()).is_empty());
    let none = run_json([
        "kgdb",
        "-q",
        &dump,
        "--program",
        "true",
        "--dir",
        "/no/such",
    ])
    .expect(1);
    none.error("not-found");
}

/// `livecore kgdb` with a sleeping program: both process ids, and the directory.
struct Sleeping {
    child: std::process::Child,
    sleeper: String,
    spool: tempfile::TempDir,
    _dir: tempfile::TempDir,
}

impl Sleeping {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = tempfile::tempdir().unwrap();
        let started = dir.path().join("started");
        let program = fake(
            dir.path(),
            "sleeper",
            &format!(
                "trap '' QUIT; echo $$ > {}; exec sleep 60",
                started.display()
            ),
        );
        let child = livecore_with_signals()
            .args(["kgdb", "-q", &small().path("vmcore.7.zst"), "--program"])
            .arg(&program)
            .arg("--dir")
            .arg(spool.path())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while fs::read_to_string(&started).map_or(true, |text| !text.ends_with('\n')) {
            assert!(Instant::now() < patience, "the program was not started");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(names(spool.path()).len(), 1);
        Self {
            child,
            sleeper: fs::read_to_string(&started).unwrap(),
            spool,
            _dir: dir,
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    fn wait_until(what: &str, done: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < patience, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn signal_ends_the_program_and_removes_the_dump() {
    for (signal, number) in [("-TERM", 15), ("-QUIT", 3), ("-HUP", 1)] {
        let mut run = Sleeping::start();
        // SIGINT affects only the program.
        run.signal("-INT");
        std::thread::sleep(Duration::from_millis(200));
        assert!(run.child.try_wait().unwrap().is_none());
        run.signal(signal);
        assert_eq!(run.child.wait().unwrap().code(), Some(128 + number));
        assert!(names(run.spool.path()).is_empty(), "{signal}");
        let sleeper = Path::new("/proc").join(run.sleeper.trim()).join("exe");
        Sleeping::wait_until("the program still runs", || !sleeper.exists());
    }
}

/// The guard process removes the directory, since the killed process cannot.
#[test]
fn kill_removes_the_dump_too() {
    use std::os::unix::process::ExitStatusExt;
    let mut run = Sleeping::start();
    run.signal("-KILL");
    assert_eq!(run.child.wait().unwrap().signal(), Some(9));
    Sleeping::wait_until("the directory is still there", || {
        names(run.spool.path()).is_empty()
    });
    let _ = Command::new("kill").arg(run.sleeper.trim()).status();
}

#[test]
fn crashinfo_gets_vmcore_and_info_and_its_report_is_copied() {
    let made = small();
    let (dump, kernel) = (made.path("vmcore.7.zst"), made.path("machine/kernel"));
    let dir = tempfile::tempdir().unwrap();
    let program = fake(
        dir.path(),
        "crashinfo",
        "echo chatter; { ls \"$2\"; echo \"$1 $3 $4 $5 $6 $7\"; cat \"$2/info.7\"; } > \"$2/core.txt.7\"",
    );
    let program = program.to_str().unwrap();
    let args = [
        "kgdb",
        "-q",
        "--crashinfo",
        &dump,
        "--kernel",
        &kernel,
        "--program",
        program,
        "--",
        "-b",
    ];
    let report = run(args).expect(0);
    let text = report.text();
    assert!(text.starts_with("core.txt.7\ninfo.7\nvmcore.7\n"), "{text}");
    assert!(text.contains(&format!("-d -n 7 -k {kernel} -b")), "{text}");
    assert!(text.contains("Dump header from device: "), "{text}");
    assert!(text.contains("  Compression: none\n"), "{text}");
    assert!(text.contains("  Dump Status: good\n"), "{text}");
    let file = dir.path().join("report");
    let args = [
        "kgdb",
        "-q",
        "--crashinfo",
        &dump,
        "--program",
        program,
        "-o",
        file.to_str().unwrap(),
    ];
    // An existing report is replaced atomically, with mode 0600.
    fs::write(&file, "before").unwrap();
    let before = File::open(&file).unwrap();
    run(args).expect(0);
    assert!(fs::read_to_string(&file).unwrap().contains("vmcore.7"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::io::read_to_string(before).unwrap(), "before");
    let silent = run_json(["kgdb", "-q", "--crashinfo", &dump, "--program", "true"]).expect(1);
    silent.error("program-failed");
}

#[test]
fn pipe_instead_of_an_info_file_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::copy(small().path("payload"), at("vmcore.7")).unwrap();
    let made = Command::new("mkfifo").arg(at("info.7")).status();
    assert!(made.unwrap().success());
    for args in [
        vec!["info", &at("vmcore.7")],
        vec!["verify", "--quick", &at("vmcore.7")],
        vec!["export", "-q", &at("vmcore.7"), &at("out")],
    ] {
        let printed = run(&args);
        assert!([0, 3].contains(&printed.code), "{args:?}: {}", printed.err);
    }
}

#[test]
fn export_writes_a_sparse_vmcore_with_the_dumps_number() {
    use std::os::unix::fs::MetadataExt;
    let made = small();
    let dump = made.path("vmcore.7.zst");
    let dir = tempfile::tempdir().unwrap();
    let to = format!("{}/", dir.path().display());
    let report = run(["export", "--json", &dump, &to]).expect(0);
    schema::check("written", &serde_json::from_slice(&report.out).unwrap());
    let all = ["bounds", "info.7", "info.last", "vmcore.7", "vmcore.last"];
    assert_eq!(names(dir.path()), all);
    let vmcore = dir.path().join("vmcore.7");
    assert!(fs::read(&vmcore).unwrap() == fs::read(made.path("payload")).unwrap());
    let file = vmcore.metadata().unwrap();
    // 8 MiB of its page tables are zeros.
    assert!(file.blocks() * 512 + (7 << 20) < file.len());
    run(["export", &dump, &to]).expect(1);
    run(["export", "-q", "-f", &dump, &to]).expect(0);
    run(["export", &dump, "-"]).expect(64);
}

#[test]
fn triage_reports_panic_cpus_processes_and_messages() {
    let made = small();
    let (dump, kernel) = (made.path("vmcore.7.zst"), made.path("machine/kernel"));
    let report = run(["triage", "--json", &dump, "--kernel", &kernel]).expect(0);
    let report: Value = serde_json::from_slice(&report.out).unwrap();
    schema::check("triage", &report);
    let truth = made.truth.truth();
    assert_eq!(report["threads"], truth.threads.len());
    let cpus = report["cpus"].as_array().unwrap();
    assert_eq!(cpus[0]["crashed"], true);
    assert_eq!(cpus[0]["frames"][0]["function"], "doadump");
    assert!(report["processes"].as_array().unwrap().len() > 5);
    // Processes and parents agree with ps.
    let ps = run(["ps", "--json", &dump, "--kernel", &kernel]).expect(0);
    let ps: Value = serde_json::from_slice(&ps.out).unwrap();
    let family = |answer: &Value| {
        let list = answer["processes"].as_array().unwrap().iter();
        list.map(|p| (p["pid"].as_i64(), p["ppid"].as_i64()))
            .collect::<Vec<_>>()
    };
    assert_eq!(family(&report), family(&ps));
    assert!(report["version"].as_str().unwrap().starts_with("FreeBSD "));
    let text = run(["triage", &dump, "--kernel", &kernel]).expect(0);
    for word in [
        "panic:",
        "CPUs:",
        "Processes:",
        "Message buffer",
        "doadump+",
    ] {
        assert!(text.text().contains(word), "{word}: {}", text.text());
    }
    // Without a kernel.
    let elsewhere = tempfile::tempdir().unwrap();
    let dump_alone = elsewhere.path().join("vmcore.7.zst");
    fs::copy(&dump, &dump_alone).unwrap();
    let dump = dump_alone.to_str().unwrap();
    let alone = run(["triage", dump]).expect(0);
    assert!(alone.text().contains("--kernel"), "{}", alone.text());
    // A bare payload has no panic message.
    let payload = elsewhere.path().join("payload");
    fs::copy(made.path("payload"), &payload).unwrap();
    let silent = run(["triage", payload.to_str().unwrap()]).expect(0);
    let line = "panic:         unknown\n";
    assert!(silent.text().contains(line), "{}", silent.text());
    let few = run(["triage", "--json", "--lines", "2", dump]).expect(0);
    let few: Value = serde_json::from_slice(&few.out).unwrap();
    schema::check("triage", &few);
    assert_eq!(few["message_buffer"].as_array().unwrap().len(), 2);
}
