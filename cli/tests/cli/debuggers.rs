//! gdb and lldb, as Debian has them, look into dumps that are served.
//!
//! Expected values are the emulated machine's own description of itself. A debugger that is not
//! installed is told as skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use livecore_synth::{Context, ThreadTruth};

use crate::harness::{livecore, run};
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

/// What gdb says, both outputs together, of commands that do not end at an error.
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

/// What lldb says. A command that fails ends it, so only the last may.
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

/// Gives what is told of each thread, by its number in the list.
pub(crate) fn by_thread(
    text: &str,
    begins: impl Fn(&str) -> Option<usize>,
) -> BTreeMap<usize, Vec<&str>> {
    let mut told = BTreeMap::new();
    let mut thread = None;
    for line in text.lines() {
        if let Some(number) = begins(line) {
            thread = Some(number);
        } else if let Some(number) = thread {
            told.entry(number).or_insert_with(Vec::new).push(line);
        }
    }
    told
}

/// `Thread 3 (Thread 100023 "…")`, `Thread 3 (LWP …)`
fn gdb_thread(line: &str) -> Option<usize> {
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

/// The functions of a backtrace's lines: `#1  0x… in name (…`, `#0  name (…`.
pub(crate) fn gdb_functions(lines: &[&str]) -> Vec<String> {
    let frames = lines.iter().filter(|line| line.starts_with('#'));
    let function = |line: &&str| {
        let rest = line.split_once(' ')?.1.trim_start();
        let rest = rest.split_once(" in ").map_or(rest, |(_, name)| name);
        // To gdb two underscores in a symbol's name are Ada's dot.
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

/// The functions that a debugger's own walk meets: it passes over what a trap interrupted. On arm64
/// what comes behind a trap's entry is nothing that code alone tells.
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

/// Whether `found` is `expected`, of which the outermost frame may be missing: the entry from user
/// mode, whose caller's frame is not a kernel's.
#[track_caller]
pub(crate) fn same_chain(found: &[String], expected: &[&str], title: &str) {
    assert!(
        !found.is_empty() || expected.is_empty(),
        "{title}: no frames"
    );
    let told = found.len().min(expected.len());
    assert!(
        told + 1 >= expected.len(),
        "{title}: {found:?}, expected {expected:?}"
    );
    assert_eq!(found[..told], expected[..told], "{title}");
}

#[test]
fn gdb_lists_every_thread_by_name_with_the_registers_it_was_given() {
    if !have(GDB) {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), riscv64(), i386()] {
        let server = Server::of(dumped);
        // Nothing but `target remote`: the kernel comes through the connection.
        let told = gdb(
            &[&remote(&server)],
            &["info threads", "thread apply all info registers"],
        );
        let list: Vec<_> = told
            .lines()
            .filter(|l| l.contains(" Thread ") && l.contains('"'))
            .collect();
        let threads = dumped.threads();
        assert!(list.len() >= threads.len(), "{told}");
        for (line, thread) in list.iter().zip(&threads) {
            let expected = format!(" Thread {} \"{}\" ", thread.tid, title(thread));
            assert!(line.contains(&expected), "{line}: expected {expected}");
        }
        assert!(list[0].starts_with("* 1 "), "{}", list[0]);
        let registers = by_thread(&told, gdb_thread);
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

/// A live dump has no registers of the threads that ran. gdb does not connect to such a thread, so
/// another one is the first.
#[test]
fn gdb_opens_a_dump_of_a_machine_that_ran_on() {
    if !have(GDB) {
        return;
    }
    let dumped = i386_pae();
    let server = Server::of(dumped);
    let told = gdb(&[&remote(&server)], &["info threads", "bt 1"]);
    for thread in dumped.threads() {
        let id = format!(" Thread {} \"{}\" ", thread.tid, title(thread));
        let line = told.lines().find(|line| line.contains(&id));
        let line = line.unwrap_or_else(|| panic!("no {id}: {told}"));
        let runs = matches!(thread.context, Context::Running(_));
        assert_eq!(line.contains("<unavailable>"), runs, "{line}");
        assert!(!(runs && line.starts_with('*')), "{line}");
    }
    assert!(told.contains("#0  0x"), "{told}");
}

/// By DWARF where the kernel has it, else by the frame pointers that its code sets up.
#[test]
fn gdb_backtraces_are_those_of_the_machines_stacks() {
    if !have(GDB) {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), riscv64(), i386()] {
        let server = Server::of(dumped);
        let told = gdb(&[&remote(&server)], &["thread apply all -c bt"]);
        let stacks = by_thread(&told, gdb_thread);
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
fn gdb_reads_what_the_machines_memory_holds_and_no_hole() {
    if !have(GDB) {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let file = tempfile::NamedTempFile::new().unwrap();
    let dump = "dump binary memory FILE 0xffffffff80200000 0xffffffff80203000";
    let dump = dump.replace("FILE", file.path().to_str().unwrap());
    let told = gdb(
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
    assert_eq!(told.matches("= 1000\n").count(), 2, "{told}");
    assert!(told.contains("type = int\n"), "{told}");
    let tid = format!(" = {}\n", debug.threads()[0].tid);
    assert!(told.contains(&tid), "{told}");
    assert!(
        told.contains("Cannot access memory at address 0x1234"),
        "{told}"
    );
    assert!(told.contains("a dump is read-only"), "{told}");
    assert!(told.contains("a dump does not run"), "{told}");
    // The kernel lies at physical 2 MiB, and RAM is a file.
    let ram = fs::read(&debug.ram).unwrap();
    let expected = &ram[0x20_0000..0x20_3000];
    assert!(expected.iter().any(|b| *b != 0));
    assert!(fs::read(file.path()).unwrap() == expected, "memory differs");
    let word = u32::from_le_bytes(expected[..4].try_into().unwrap());
    assert!(told.contains(&format!("0x200000:\t{word:#010x}")), "{told}");
}

#[test]
fn gdb_leaves_and_comes_back() {
    if !have(GDB) {
        return;
    }
    let server = Server::of(debug());
    let connect = remote(&server);
    let told = gdb(
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
    assert_eq!(told.matches("= 1000\n").count(), 3, "{told}");
    let again = gdb(&[&connect], &["print hz"]);
    assert!(again.contains("= 1000\n"), "{again}");
}

/// The manual recipe: the file is on this disk, its ABI is FreeBSD's.
#[test]
fn gdb_takes_the_kernels_file_after_it_was_told_of_no_abi() {
    if !have(GDB) {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let file = format!("file {}", debug.kernel.display());
    let told = gdb(
        &["set osabi none", &file, &remote(&server)],
        &["bt", "info registers rip"],
    );
    let found = gdb_functions(&told.lines().collect::<Vec<_>>());
    same_chain(&found, &walked(debug.threads()[0]), "the crashed thread");
}

#[test]
fn monitor_backtrace_goes_through_traps_in_both_debuggers() {
    let debug = debug();
    let server = Server::of(debug);
    let expected: Vec<String> = debug.threads()[0]
        .frames
        .iter()
        .map(|f| format!("{:#018x} {}+{:#x}", f.pc, f.function, f.offset))
        .collect();
    let mut told = Vec::new();
    if have(GDB) {
        told.push(gdb(&[&remote(&server)], &["monitor bt"]));
    }
    if have("lldb") {
        let command = "process plugin packet monitor bt";
        told.push(lldb(&debug.kernel, server.address(), &[command]));
    }
    for told in told {
        let found: Vec<&str> = told
            .lines()
            .filter(|line| line.starts_with('#') && line.contains("0x"))
            .map(|line| line.split_once(' ').unwrap().1.trim_start())
            .collect();
        assert_eq!(found, expected, "{told}");
        assert!(told.contains("--- trap 0xc"), "{told}");
    }
}

#[test]
fn lldb_lists_every_thread_by_name_with_the_registers_it_was_given() {
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
        let told = lldb(&dumped.kernel, server.address(), &commands);
        for (number, thread) in (1..).zip(&threads) {
            let begins = format!("thread #{number}: tid = {}, ", thread.tid);
            let line = told.lines().find(|line| line.contains(&begins));
            let line = line.unwrap_or_else(|| panic!("no {begins}: {told}"));
            let name = title(thread);
            assert!(line.contains(&format!("name = '{name}'")), "{line}");
            let (_, after) = told
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
fn lldb_backtraces_are_those_of_the_machines_stacks() {
    if !have("lldb") {
        return;
    }
    for dumped in [debug(), tiny(), arm64(), i386()] {
        let server = Server::of(dumped);
        let told = lldb(&dumped.kernel, server.address(), &["thread backtrace all"]);
        let (_, told) = told.split_once("(lldb) thread backtrace all").unwrap();
        let stacks = by_thread(told, lldb_thread);
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
fn lldb_leaves_and_comes_back() {
    if !have("lldb") {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let again = format!("gdb-remote {}", server.address());
    let told = lldb(
        &debug.kernel,
        server.address(),
        &["p hz", "process detach", &again, "p hz", "process detach"],
    );
    assert_eq!(told.matches("(int) $0 = 1000\n").count(), 1, "{told}");
    assert_eq!(told.matches(" = 1000\n").count(), 2, "{told}");
    let told = lldb(&debug.kernel, server.address(), &["p hz"]);
    assert!(told.contains("(int) $0 = 1000\n"), "{told}");
}

#[test]
fn lldb_reads_what_the_machines_memory_holds_and_no_hole() {
    if !have("lldb") {
        return;
    }
    let debug = debug();
    let server = Server::of(debug);
    let file = tempfile::NamedTempFile::new().unwrap();
    let read = "memory read --force --binary --outfile FILE 0xffffffff80200000 0xffffffff80203000";
    let read = read.replace("FILE", file.path().to_str().unwrap());
    let told = lldb(
        &debug.kernel,
        server.address(),
        &[
            "memory region 0xffffffff80200000",
            // lldb 14 looks for unused addresses, and after an error asks for no region any more.
            "p hz",
            &read,
            "memory read 0x1234",
        ],
    );
    assert!(told.contains("(int) $0 = 1000\n"), "{told}");
    let regions: Vec<_> = told.lines().filter(|l| l.starts_with("[0x")).collect();
    let (range, permissions) = regions[0].split_once(") ").unwrap();
    let (start, end) = range[1..].split_once('-').unwrap();
    let number = |text: &str| u64::from_str_radix(&text[2..], 16).unwrap();
    let range = number(start)..number(end);
    assert!(range.contains(&0xffff_ffff_8020_0000), "{told}");
    assert!(permissions.starts_with('r'), "{told}");
    assert!(told.contains("memory read failed"), "{told}");
    // A thread that stops where it was is a crash to lldb, which then ends a batch.
    let refused = lldb(&debug.kernel, server.address(), &["process continue"]);
    assert!(refused.contains("a dump does not run"), "{refused}");
    assert_eq!(refused.matches("doadump").count(), 2, "{refused}");
    let ram = fs::read(&debug.ram).unwrap();
    let expected = &ram[0x20_0000..0x20_3000];
    assert!(fs::read(file.path()).unwrap() == expected, "memory differs");
}

/// A module's file as amd64 has them: an object file, whose sections take what was loaded. One of
/// them is called `last`, if it has a name.
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
fn modules_come_with_their_symbols_if_the_file_is_the_loaded_one() {
    let debug = debug();
    let dir = tempfile::Builder::new().prefix("a module's").tempdir();
    let dir = dir.unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::copy(&debug.dump, at("livecore.0.zst")).unwrap();
    fs::copy(&debug.kernel, at("kernel")).unwrap();
    module_file(debug, &at("synth.ko"), "");
    // As long as another module, and so not this one.
    fs::copy(at("synth.ko"), at("if_synth.ko")).unwrap();
    let loaded = debug
        .machine
        .truth()
        .modules
        .iter()
        .find(|m| m.name == "synth.ko")
        .unwrap();
    let (text, data) = (loaded.address + 0x100, loaded.address + 0x400);
    if have(GDB) {
        let server = Server::start([at("livecore.0.zst")]);
        let symbol = format!("info symbol {text:#x}");
        let other = format!("info symbol {data:#x}");
        let told = gdb(&[&remote(&server)], &[&symbol, &other, "monitor kld"]);
        assert!(
            told.contains("synth_modevent in section .text of"),
            "{told}"
        );
        assert!(told.contains("synth_data in section .data of"), "{told}");
        let line = format!(
            "add-symbol-file \"{}\" {:#x}",
            at("synth.ko").display(),
            loaded.address
        );
        let line = told.lines().find(|l| l.starts_with(&line));
        let line = line.unwrap_or_else(|| panic!("no command: {told}"));
        // What a user of another gdb copies.
        let told = gdb(&[line], &[&symbol, &other]);
        assert!(told.contains("synth_modevent in section .text"), "{told}");
        assert!(told.contains("synth_data in section .data"), "{told}");
    }
    // The verb: whichever debugger, and what it says of the file that does not fit.
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
            .args(["gdb", "--debugger", program])
            .arg(at("livecore.0.zst"))
            .arg("--")
            .args(args)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{program}: {out}{err}");
        assert!(out.contains("synth_modevent"), "{program}: {out}{err}");
        assert!(
            err.contains("if_synth.ko is not the loaded if_synth.ko"),
            "{err}"
        );
        assert!(err.contains("livecore: kernel: "), "{err}");
    }
}

#[test]
fn verb_chooses_a_debugger_that_is_there_and_gives_its_end() {
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
    let told = |command: &str| {
        let rest = ["--", "-nx", "-batch", "-ex", command].map(AsRef::as_ref);
        run(args.into_iter().chain(dump).chain(rest))
    };
    let threads = told("info threads").expect(0);
    let first = title(tiny.threads()[0]);
    assert!(threads.text().contains(&first), "{}", threads.text());
    // gdb asks for the registers of every thread, the last one's last.
    for list in ["info threads", "thread apply all bt"] {
        let rest = ["--", "-nx", "-batch", "-ex", list, "-ex", "monitor bt"].map(AsRef::as_ref);
        let run = run(args.into_iter().chain(dump).chain(rest)).expect(0);
        let heading = format!("(tid {})\n#0", tiny.threads()[0].tid);
        // gdb prints it on either output.
        let told = run.text().to_owned() + &run.err;
        assert!(told.contains(&heading), "{list}: {told}");
    }
    let failed = told("quit 7").expect(1);
    assert!(failed.err.contains('7'), "{}", failed.err);
}
