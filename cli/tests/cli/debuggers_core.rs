//! gdb and lldb on ELF cores by `convert --to elf` must show what they show of a served dump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debuggers::{
    GDB, by_thread, gdb, gdb_functions, have, lldb_functions, lldb_thread, same_chain, walked,
};
use crate::harness::run;
use crate::served::{debug, title};

/// An ELF core of the machine with a compiled kernel, with these notes.
fn core(notes: &str, dir: &Path) -> PathBuf {
    let core = dir.join("core");
    let args = ["convert", "-q", "--to", "elf", "--notes", notes, "--kernel"];
    let files = [&debug().kernel, &debug().dump, &core].map(|p| p.as_os_str());
    run(args.map(AsRef::as_ref).into_iter().chain(files)).expect(0);
    core
}

/// The start of the kernel in memory, at physical address 2 MiB.
fn image() -> Vec<u8> {
    let ram = fs::read(&debug().ram).unwrap();
    ram[0x20_0000..0x20_3000].to_vec()
}

/// `Thread 3 (LWP 100023):`: the thread's id.
fn gdb_thread(line: &str) -> Option<usize> {
    let (_, rest) = line.strip_prefix("Thread ")?.split_once("(LWP ")?;
    rest.split(')').next()?.parse().ok()
}

#[test]
fn gdb_shows_the_same_of_a_core_with_linux_notes_and_of_a_server() {
    if !have(GDB) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let core = core("linux", dir.path());
    let bytes = dir.path().join("bytes");
    let dump = format!(
        "dump binary memory {} 0xffffffff80200000 0xffffffff80203000",
        bytes.display()
    );
    let first = [
        "set osabi GNU/Linux".to_owned(),
        format!("file {}", debug().kernel.display()),
        format!("core {}", core.display()),
    ];
    let printed = gdb(
        &first.each_ref().map(String::as_str),
        &[
            "print hz",
            "ptype hz",
            &dump,
            "x/1xb 0x1234",
            "echo \\nregisters\\n",
            "thread apply all info registers",
            "echo \\nstacks\\n",
            "thread apply all -c bt",
        ],
    );
    assert!(printed.contains("$1 = 1000\n"), "{printed}");
    assert!(printed.contains("type = int\n"), "{printed}");
    assert!(
        printed.contains("Cannot access memory at address 0x1234"),
        "{printed}"
    );
    assert!(fs::read(bytes).unwrap() == image(), "memory differs");
    let (_, rest) = printed.split_once("\nregisters\n").unwrap();
    let (registers, stacks) = rest.split_once("\nstacks\n").unwrap();
    let registers = by_thread(registers, gdb_thread);
    let stacks = by_thread(stacks, gdb_thread);
    let threads = debug().threads();
    assert_eq!(stacks.len(), threads.len(), "{printed}");
    for thread in threads {
        let (tid, name) = (thread.tid as usize, title(thread));
        for (register, value) in debug().registers(thread) {
            let value = format!("{value:#x}");
            let found = registers[&tid].iter().find_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some(register)).then(|| words.next())?
            });
            assert_eq!(found, Some(value.as_str()), "{name}: {register}");
        }
        same_chain(&gdb_functions(&stacks[&tid]), &walked(thread), &name);
    }
}

#[test]
fn lldb_shows_the_same_of_a_core_with_freebsd_notes_and_of_a_server() {
    if !have("lldb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let core = core("freebsd", dir.path());
    let bytes = dir.path().join("bytes");
    let threads = debug().threads();
    let mut commands = vec![
        format!(
            "target create {} -c {}",
            debug().kernel.display(),
            core.display()
        ),
        "p hz".into(),
        format!(
            "memory read --force --binary --outfile {} 0xffffffff80200000 0xffffffff80203000",
            bytes.display()
        ),
        "thread backtrace all".into(),
    ];
    for number in 1..=threads.len() {
        commands.push(format!("thread select {number}"));
        commands.push("register read".into());
    }
    let mut lldb = Command::new("lldb");
    lldb.args(["--no-lldbinit", "--batch"]);
    for command in &commands {
        lldb.args(["-o", command]);
    }
    let output = lldb.stdin(Stdio::null()).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("(int) $0 = 1000\n"), "{printed}");
    assert!(fs::read(bytes).unwrap() == image(), "memory differs");
    let (_, rest) = printed.split_once("(lldb) thread backtrace all").unwrap();
    let (stacks, rest) = rest.split_once("(lldb) thread select 1\n").unwrap();
    let stacks = by_thread(stacks, lldb_thread);
    let registers: Vec<_> = rest.split("(lldb) register read\n").skip(1).collect();
    assert_eq!(registers.len(), threads.len(), "{printed}");
    for (number, thread) in (1..).zip(threads) {
        let name = title(thread);
        let registers = registers[number - 1].split("(lldb)").next().unwrap();
        for (register, value) in debug().registers(thread) {
            let value = format!(" {register} = {value:#018x}");
            assert!(registers.contains(&value), "{name}: {value}: {registers}");
        }
        let found = lldb_functions(&stacks[&number]);
        same_chain(&found, &walked(thread), &name);
    }
}
