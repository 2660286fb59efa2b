//! gdb and lldb as packaged by Debian, connected to served dumps.
//!
//! Expected values come from the emulated machine's description. Tests of a debugger that is not
//! installed print that they are skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use livecore_serve::REFUSED;
use livecore_synth::{Context, ThreadTruth};

use crate::harness::{MESSAGES, Run, livecore, run};
use crate::real::say;
use crate::served::{Dumped, Server, arm64, debug, i386, i386_pae, riscv64, tiny, title};

/// Whether `program` is installed.
pub(crate) fn have(program: &str) -> bool {
    let version = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = version.is_ok_and(|s| s.success());
    if !there {
        say(&format!("skipped: {program} is not installed"));
    }
    there
}

pub(crate) const GDB: &str = "gdb-multiarch";

/// Runs gdb and returns standard output and standard error. The commands must not fail.
pub(crate) fn gdb(first: &[&str], commands: &[&str]) -> String {
    let mut gdb = Command::new(GDB);
    gdb.args(["-nx", "-q", "-batch", "-iex", "set pagination off"]);
    gdb.args(["-iex", "set width 0", "-iex", "set confirm off"]);
    for command in first.iter().chain(commands) {
        gdb.args(["-ex", command]);
    }
    let output = gdb.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs lldb and returns its output. A failing command ends lldb, so only the last may fail.
pub(crate) fn lldb(kernel: &Path, address: &str, commands: &[&str]) -> String {
    let mut lldb = Command::new("lldb");
    lldb.args(["--no-lldbinit", "--batch"]);
    lldb.arg("-o")
        .arg(format!("target create {}", kernel.display()));
    lldb.arg("-o").arg(format!("gdb-remote {address}"));
    for command in commands {
        lldb.args(["-o", command]);
    }
    let output = lldb.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn remote(server: &Server) -> String {
    format!("target remote {}", server.address())
}

/// Groups the lines of a backtrace by the thread's number.
pub(crate) fn by_thread(
    text: &str,
    begins: impl Fn(&str) -> Option<usize>,
) -> BTreeMap<usize, Vec<&str>> {
    let mut printed = BTreeMap::new();
    let mut thread = None;
    for line in text.lines() {
        if let Some(number) = begins(line) {
            thread = Some(number);
        } else if let Some(number) = thread {
            printed.entry(number).or_insert_with(Vec::new).push(line);
        }
    }
    printed
}

/// `Thread 3 (Thread 100023 "…")`, `Thread 3 (LWP …)`
pub(crate) fn gdb_thread(line: &str) -> Option<usize> {
    line.strip_prefix("Thread ")?
        .split_once(" (")?
        .0
        .parse()
        .ok()
}

/// `* thread #3, name = …`
pub(crate) fn lldb_thread(line: &str) -> Option<usize> {
    let rest = line
        .trim_start_matches(['*', ' '])
        .strip_prefix("thread #")?;
    rest.split([',', ':']).next()?.parse().ok()
}

/// The function names in gdb's lines: `#1  0x… in name (…`, `#0  name (…`.
pub(crate) fn gdb_functions(lines: &[&str]) -> Vec<String> {
    let frames = lines.iter().filter(|line| line.starts_with('#'));
    let function = |line: &&str| {
        let rest = line.split_once(' ')?.1.trim_start();
        let rest = rest.split_once(" in ").map_or(rest, |(_, name)| name);
        // gdb prints two underscores in a symbol name as Ada's dot.
        Some(rest.split([' ', '(']).next()?.replace('.', "__"))
    };
    frames.filter_map(function).collect()
}

/// `frame #1: 0x… kernel`name(…` or `kernel`name + 25`.
pub(crate) fn lldb_functions(lines: &[&str]) -> Vec<String> {
    let name = |line: &&str| {
        let (_, rest) = line.split_once("frame #")?;
        let (_, name) = rest.split_once('`')?;
        Some(name.split(['(', ' ']).next()?.to_owned())
    };
    lines.iter().filter_map(name).collect()
}

/// The functions that a debugger's own unwinder finds: it skips the function that a trap
/// interrupted. On arm64 it cannot unwind beyond the trap entry.
pub(crate) fn walked(thread: &ThreadTruth) -> Vec<&str> {
    let mut after_trap = false;
    let mut names = Vec::new();
    for frame in &thread.frames {
        if after_trap
            && names
                .last()
                .is_some_and(|n: &&str| n.starts_with("handle_el"))
        {
            break;
        }
        if !after_trap {
            names.push(frame.function.as_str());
        }
        after_trap = frame.trap.is_some();
    }
    names
}

/// Asserts that `found` is `expected`, except for the outermost frame, the entry from user mode,
/// whose caller is not in the kernel.
#[track_caller]
pub(crate) fn same_chain(found: &[String], expected: &[&str], title: &str) {
    assert!(
        !found.is_empty() || expected.is_empty(),
        "{title}: no frames"
    );
    let printed = found.len().min(expected.len());
    assert!(
        printed + 1 >= expected.len(),
        "{title}: {found:?}, expected {expected:?}"
    );
    assert_eq!(found[..printed], expected[..printed], "{title}");
}

#[test]
fn gdb_lists_all_threads_with_names_and_registers() {
    if !have(GDB) {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), riscv64(), i386()] {
        let server = Server::of(dumped);
        // Only `target remote`: gdb reads the kernel through the connection.
        let printed = gdb(
            &[&remote(&server)],
            &["info threads", "thread apply all info registers"],
        );
        let list: Vec<_> = printed
            .lines()
            .filter(|l| l.contains(" Thread ") && l.contains('"'))
            .collect();
        let threads = dumped.threads();
        assert!(list.len() >= threads.len(), "{printed}");
        for (line, thread) in list.iter().zip(&threads) {
            let expected = format!(" Thread {} \"{}\" ", thread.tid, title(thread));
            assert!(line.contains(&expected), "{line}: expected {expected}");
        }
        assert!(list[0].starts_with("* 1 "), "{}", list[0]);
        let registers = by_thread(&printed, gdb_thread);
        assert_eq!(registers.len(), threads.len());
        for (number, thread) in (1..).zip(&threads) {
            let name = title(thread);
            let value = |register: &str| {
                let of = |line: &&&str| line.split_whitespace().next() == Some(register);
                let line = registers[&number].iter().find(of);
                line.map(|l| l.split_whitespace().nth(1).unwrap().to_owned())
            };
            assert!(!thread.registers.is_empty());
            for (register, expected) in dumped.registers(thread) {
                let expected = format!("{expected:#x}");
                assert_eq!(value(register), Some(expected), "{name}: {register}");
            }
            let unsaved = value(dumped.unsaved());
            assert_eq!(unsaved.as_deref(), Some("<unavailable>"), "{name}");
            assert_eq!(value("td"), Some(format!("{:#x}", thread.va)), "{name}");
        }
    }
}

/// A live dump has no registers of running threads. gdb does not connect to such a thread, so
/// another one must be the first.
#[test]
fn gdb_opens_a_dump_of_a_running_machine() {
    if !have(GDB) {
        return;
    }
    let dumped = i386_pae();
    let server = Server::of(dumped);
    let printed = gdb(&[&remote(&server)], &["info threads", "bt 1"]);
    for thread in dumped.threads() {
        let id = format!(" Thread {} \"{}\" ", thread.tid, title(thread));
        let line = printed.lines().find(|line| line.contains(&id));
        let line = line.unwrap_or_else(|| panic!("no {id}: {printed}"));
        let runs = matches!(thread.context, Context::Running(_));
        assert_eq!(line.contains("<unavailable>"), runs, "{line}");
        assert!(!(runs && line.starts_with('*')), "{line}");
    }
    assert!(printed.contains("#0  0x"), "{printed}");
}

/// gdb uses the kernel's DWARF if there is any, else the frame pointers.
#[test]
fn gdb_backtraces_match_the_machines_stacks() {
    if !have(GDB) {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), riscv64(), i386()] {
        let server = Server::of(dumped);
        let printed = gdb(&[&remote(&server)], &["thread apply all -c bt"]);
        let stacks = by_thread(&printed, gdb_thread);
        let mut frames = 0;
        for (number, thread) in (1..).zip(dumped.threads()) {
            let found = gdb_functions(&stacks[&number]);
            same_chain(&found, &walked(thread), &title(thread));
            frames += found.len();
        }
        assert!(frames > 50, "{frames} frames in all");
    }
}

#[test]
fn gdb_reads_memory_and_no_holes() {
    if !have(GDB) {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let file = tempfile::NamedTempFile::new().unwrap();
    let dump = "dump binary memory FILE 0xffffffff80200000 0xffffffff80203000";
    let dump = dump.replace("FILE", file.path().to_str().unwrap());
    let printed = gdb(
        &[&remote(&server)],
        &[
            "print hz",
            "ptype hz",
            "print ((struct thread *)$td)->td_tid",
            "x/1xb 0x1234",
            &dump,
            "set var hz = 3",
            "set $rbx = 3",
            "stepi",
            "print hz",
            "monitor phys on",
            "x/1xw 0x200000",
        ],
    );
    assert_eq!(printed.matches("= 1000\n").count(), 2, "{printed}");
    assert!(printed.contains("type = int\n"), "{printed}");
    let tid = format!(" = {}\n", debug.threads()[0].tid);
    assert!(printed.contains(&tid), "{printed}");
    assert!(
        printed.contains("Cannot access memory at address 0x1234"),
        "{printed}"
    );
    assert_eq!(printed.matches(REFUSED).count(), 2, "{printed}");
    // The kernel is at physical address 2 MiB.
    let ram = fs::read(&debug.ram).unwrap();
    let expected = &ram[0x20_0000..0x20_3000];
    assert!(expected.iter().any(|b| *b != 0));
    assert!(fs::read(file.path()).unwrap() == expected, "memory differs");
    let word = u32::from_le_bytes(expected[..4].try_into().unwrap());
    assert!(
        printed.contains(&format!("0x200000:\t{word:#010x}")),
        "{printed}"
    );
}

#[test]
fn gdb_detaches_and_reconnects() {
    if !have(GDB) {
        return;
    }
    let server = Server::of(debug());
    let connect = remote(&server);
    let printed = gdb(
        &[&connect],
        &[
            "print hz",
            "detach",
            &connect,
            "print hz",
            "disconnect",
            &connect,
            "print hz",
        ],
    );
    assert_eq!(printed.matches("= 1000\n").count(), 3, "{printed}");
    let again = gdb(&[&connect], &["print hz"]);
    assert!(again.contains("= 1000\n"), "{again}");
}

/// The manual procedure: the file is local and names FreeBSD's ABI.
#[test]
fn gdb_loads_the_kernel_file_after_set_osabi_none() {
    if !have(GDB) {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let file = format!("file {}", debug.kernel.display());
    let printed = gdb(
        &["set osabi none", &file, &remote(&server)],
        &["bt", "info registers rip"],
    );
    let found = gdb_functions(&printed.lines().collect::<Vec<_>>());
    same_chain(&found, &walked(debug.threads()[0]), "the crashed thread");
}

#[test]
fn monitor_backtrace_passes_traps_in_both_debuggers() {
    let debug = debug();
    let server = Server::of(debug);
    let expected: Vec<String> = debug.threads()[0]
        .frames
        .iter()
        .map(|f| format!("{:#018x} {}+{:#x}", f.pc, f.function, f.offset))
        .collect();
    let mut printed = Vec::new();
    if have(GDB) {
        printed.push(gdb(&[&remote(&server)], &["monitor bt"]));
    }
    if have("lldb") {
        let command = "process plugin packet monitor bt";
        printed.push(lldb(&debug.kernel, server.address(), &[command]));
    }
    for printed in printed {
        let found: Vec<&str> = printed
            .lines()
            .filter(|line| line.starts_with('#') && line.contains("0x"))
            .map(|line| line.split_once(' ').unwrap().1.trim_start())
            .map(|line| line.split_once(" at /usr/src/sys/synth/functions.h:"))
            .map(|line| line.expect("a source line").0)
            .collect();
        assert_eq!(found, expected, "{printed}");
        assert!(printed.contains("--- trap 0xc"), "{printed}");
    }
}

#[test]
fn lldb_lists_all_threads_with_names_and_registers() {
    if !have("lldb") {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), i386()] {
        let server = Server::of(dumped);
        let threads = dumped.threads();
        let mut commands = vec!["thread list".to_owned()];
        for number in 1..=threads.len() {
            commands.push(format!("thread select {number}"));
            commands.push("register read".into());
        }
        let commands: Vec<_> = commands.iter().map(String::as_str).collect();
        let printed = lldb(&dumped.kernel, server.address(), &commands);
        for (number, thread) in (1..).zip(&threads) {
            let begins = format!("thread #{number}: tid = {}, ", thread.tid);
            let line = printed.lines().find(|line| line.contains(&begins));
            let line = line.unwrap_or_else(|| panic!("no {begins}: {printed}"));
            let name = title(thread);
            assert!(line.contains(&format!("name = '{name}'")), "{line}");
            let (_, after) = printed
                .split_once(&format!("(lldb) thread select {number}\n"))
                .unwrap();
            let (_, registers) = after.split_once("(lldb) register read\n").unwrap();
            let registers = registers.split("(lldb)").next().unwrap();
            for (register, expected) in dumped.registers(thread) {
                let width = if std::ptr::eq(dumped, i386()) { 10 } else { 18 };
                let expected = format!(" {register} = {expected:#0width$x}");
                assert!(
                    registers.contains(&expected),
                    "{name}: {expected} in {registers}"
                );
            }
            let unsaved = format!(" {} = ", dumped.unsaved());
            assert!(!registers.contains(&unsaved), "{name}: {registers}");
        }
    }
}

#[test]
fn lldb_backtraces_match_the_machines_stacks() {
    if !have("lldb") {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), i386()] {
        let server = Server::of(dumped);
        let printed = lldb(&dumped.kernel, server.address(), &["thread backtrace all"]);
        let (_, printed) = printed.split_once("(lldb) thread backtrace all").unwrap();
        let stacks = by_thread(printed, lldb_thread);
        let mut frames = 0;
        for (number, thread) in (1..).zip(dumped.threads()) {
            let found = lldb_functions(&stacks[&number]);
            same_chain(&found, &walked(thread), &title(thread));
            frames += found.len();
        }
        assert!(frames > 50, "{frames} frames in all");
    }
}

#[test]
fn lldb_detaches_and_reconnects() {
    if !have("lldb") {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let again = format!("gdb-remote {}", server.address());
    let printed = lldb(
        &debug.kernel,
        server.address(),
        &["p hz", "process detach", &again, "p hz", "process detach"],
    );
    assert_eq!(printed.matches("(int) $0 = 1000\n").count(), 1, "{printed}");
    assert_eq!(printed.matches(" = 1000\n").count(), 2, "{printed}");
    let printed = lldb(&debug.kernel, server.address(), &["p hz"]);
    assert!(printed.contains("(int) $0 = 1000\n"), "{printed}");
}

#[test]
fn lldb_reads_memory_and_no_holes() {
    if !have("lldb") {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let file = tempfile::NamedTempFile::new().unwrap();
    let read = "memory read --force --binary --outfile FILE 0xffffffff80200000 0xffffffff80203000";
    let read = read.replace("FILE", file.path().to_str().unwrap());
    let printed = lldb(
        &debug.kernel,
        server.address(),
        &[
            "memory region 0xffffffff80200000",
            // lldb 14 searches for unused addresses, and requests no region after an error.
            "p hz",
            &read,
            "memory read 0x1234",
        ],
    );
    assert!(printed.contains("(int) $0 = 1000\n"), "{printed}");
    let regions: Vec<_> = printed.lines().filter(|l| l.starts_with("[0x")).collect();
    let (range, permissions) = regions[0].split_once(") ").unwrap();
    let (start, end) = range[1..].split_once('-').unwrap();
    let number = |text: &str| u64::from_str_radix(&text[2..], 16).unwrap();
    let range = number(start)..number(end);
    assert!(range.contains(&0xffff_ffff_8020_0000), "{printed}");
    assert!(permissions.starts_with('r'), "{printed}");
    assert!(printed.contains("memory read failed"), "{printed}");
    // lldb treats a thread that stops at the same address as crashed, and ends the batch.
    let refused = lldb(&debug.kernel, server.address(), &["process continue"]);
    assert!(refused.contains(REFUSED), "{refused}");
    assert_eq!(refused.matches("doadump").count(), 2, "{refused}");
    let ram = fs::read(&debug.ram).unwrap();
    let expected = &ram[0x20_0000..0x20_3000];
    assert!(fs::read(file.path()).unwrap() == expected, "memory differs");
}

/// Builds a module file like those of amd64: an object file with sections of the loaded sizes. If
/// `last` is not empty, it is the name of an additional section.
pub(crate) fn module_file(dumped: &Dumped, to: &Path, last: &str) {
    let module = dumped
        .machine
        .truth()
        .modules
        .iter()
        .find(|m| m.name == "synth.ko");
    let size = module.unwrap().size;
    let text = format!(
        ".text\n.globl synth_first\n.type synth_first,@function\nsynth_first: .skip 0x100\n\
         .size synth_first,0x100\n.globl synth_modevent\n.type synth_modevent,@function\n\
         synth_modevent: .skip 0x300\n.size synth_modevent,0x300\n\
         .data\n.globl synth_data\nsynth_data: .skip {:#x}\n",
        size - if last.is_empty() { 0x400 } else { 0x480 }
    );
    let text = match last {
        "" => text,
        name => format!("{text}.section \"{name}\",\"aw\",@progbits\n.skip 0x80\n"),
    };
    let source = to.with_extension("s");
    fs::write(&source, text).unwrap();
    let made = Command::new("cc")
        .arg("-c")
        .arg("-o")
        .arg(to)
        .arg(&source)
        .status();
    assert!(made.unwrap().success(), "cc makes an object file");
    fs::remove_file(source).unwrap();
}

#[test]
fn module_symbols_are_loaded_if_the_file_is_the_loaded_one() {
    let debug = debug();
    let dir = tempfile::Builder::new().prefix("a module's").tempdir();
    let dir = dir.unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::copy(&debug.dump, at("livecore.0.zst")).unwrap();
    fs::copy(&debug.kernel, at("kernel")).unwrap();
    module_file(debug, &at("synth.ko"), "");
    // The file has the size of another module.
    fs::copy(at("synth.ko"), at("if_synth.ko")).unwrap();
    let loaded = debug
        .machine
        .truth()
        .modules
        .iter()
        .find(|m| m.name == "synth.ko")
        .unwrap();
    let (text, data) = (loaded.address.0 + 0x100, loaded.address.0 + 0x400);
    if have(GDB) {
        let server = Server::start([at("livecore.0.zst")]);
        let symbol = format!("info symbol {text:#x}");
        let other = format!("info symbol {data:#x}");
        let printed = gdb(&[&remote(&server)], &[&symbol, &other, "monitor kld"]);
        assert!(
            printed.contains("synth_modevent in section .text of"),
            "{printed}"
        );
        assert!(
            printed.contains("synth_data in section .data of"),
            "{printed}"
        );
        let line = format!(
            "add-symbol-file \"{}\" {:#x}",
            at("synth.ko").display(),
            loaded.address
        );
        let line = printed.lines().find(|l| l.starts_with(&line));
        let line = line.unwrap_or_else(|| panic!("no command: {printed}"));
        // The command that a user copies into another gdb.
        let printed = gdb(&[line], &[&symbol, &other]);
        assert!(
            printed.contains("synth_modevent in section .text"),
            "{printed}"
        );
        assert!(printed.contains("synth_data in section .data"), "{printed}");
    }
    // The verb `gdb` with either debugger prints which file does not match.
    for (program, args) in [
        (GDB, ["-batch", "-ex", &format!("info symbol {text:#x}")]),
        (
            "lldb",
            ["--batch", "-o", &format!("image lookup -a {text:#x}")],
        ),
    ] {
        if !have(program) {
            continue;
        }
        let output = livecore()
            .args(MESSAGES)
            .args(["gdb", "--debugger", program])
            .arg(at("livecore.0.zst"))
            .arg("--")
            .args(args)
            .output()
            .unwrap();
        let printed = Run::of(output).expect(0);
        let (out, err) = (printed.text(), &printed.err);
        assert!(out.contains("synth_modevent"), "{program}: {out}{err}");
        assert_ne!(printed.count("other-module"), 0, "{err}");
        assert!(err.contains("/if_synth.ko "), "{err}");
        assert!(err.contains("kernel: "), "{err}");
    }
}

#[test]
fn verb_selects_an_installed_debugger_and_returns_its_failure() {
    let tiny = tiny();
    let nowhere = run([
        "gdb".as_ref(),
        "--kernel".as_ref(),
        tiny.kernel.as_os_str(),
        tiny.dump.as_os_str(),
        "--debugger".as_ref(),
        "/nonexistent/gdb".as_ref(),
    ])
    .expect(1);
    assert!(nowhere.err.contains("/nonexistent/gdb"), "{}", nowhere.err);
    if !have("gdb") {
        return;
    }
    let args = ["gdb", "-q", "--kernel"].map(AsRef::as_ref);
    let dump = [tiny.kernel.as_os_str(), tiny.dump.as_os_str()];
    let printed = |command: &str| {
        let rest = ["--", "-nx", "-batch", "-ex", command].map(AsRef::as_ref);
        run(args.into_iter().chain(dump).chain(rest))
    };
    let threads = printed("info threads").expect(0);
    let first = title(tiny.threads()[0]);
    assert!(threads.text().contains(&first), "{}", threads.text());
    // gdb reads the registers of all threads, those of the last thread last.
    for list in ["info threads", "thread apply all bt"] {
        let rest = ["--", "-nx", "-batch", "-ex", list, "-ex", "monitor bt"].map(AsRef::as_ref);
        let run = run(args.into_iter().chain(dump).chain(rest)).expect(0);
        let heading = format!("(tid {})\n#0", tiny.threads()[0].tid);
        // gdb prints this on either output.
        let printed = run.text().to_owned() + &run.err;
        assert!(printed.contains(&heading), "{list}: {printed}");
    }
    let failed = printed("quit 7").expect(1);
    assert!(failed.err.contains('7'), "{}", failed.err);
}
