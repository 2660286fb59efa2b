//! gdb and lldb on ELF cores of `convert --to elf`: what they are to see of a served dump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debuggers::{
    GDB, by_thread, gdb, gdb_functions, have, lldb_functions, lldb_thread, same_chain, walked,
};
use crate::harness::run;
use crate::served::{debug, title};

/// The machine with a compiled kernel as a core with these notes.
fn core(notes: &str, dir: &Path) -> PathBuf {
    let core = dir.join("core");
    let args = ["convert", "-q", "--to", "elf", "--notes", notes, "--kernel"];
    let files = [&debug().kernel, &debug().dump, &core].map(|p| p.as_os_str());
    run(args.map(AsRef::as_ref).into_iter().chain(files)).expect(0);
    core
}

/// Bytes of the kernel as RAM has them: it lies at physical 2 MiB.
fn image() -> Vec<u8> {
    let ram = fs::read(&debug().ram).unwrap();
    ram[0x20_0000..0x20_3000].to_vec()
}

/// `Thread 3 (LWP 100023):`, its number with the kernel.
fn gdb_thread(line: &str) -> Option<usize> {
    let (_, rest) = line.strip_prefix("Thread ")?.split_once("(LWP ")?;
    rest.split(')').next()?.parse().ok()
}

#[test]
fn gdb_sees_in_a_core_with_notes_of_linux_what_it_sees_of_a_server() {
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
    let told = gdb(
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
    assert!(told.contains("$1 = 1000\n"), "{told}");
    assert!(told.contains("type = int\n"), "{told}");
    assert!(
        told.contains("Cannot access memory at address 0x1234"),
        "{told}"
    );
    assert!(fs::read(bytes).unwrap() == image(), "memory differs");
    let (_, rest) = told.split_once("\nregisters\n").unwrap();
    let (registers, stacks) = rest.split_once("\nstacks\n").unwrap();
    let registers = by_thread(registers, gdb_thread);
    let stacks = by_thread(stacks, gdb_thread);
    let threads = debug().threads();
    assert_eq!(stacks.len(), threads.len(), "{told}");
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
fn lldb_sees_in_a_core_with_notes_of_freebsd_what_it_sees_of_a_server() {
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
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("(int) $0 = 1000\n"), "{told}");
    assert!(fs::read(bytes).unwrap() == image(), "memory differs");
    let (_, rest) = told.split_once("(lldb) thread backtrace all").unwrap();
    let (stacks, rest) = rest.split_once("(lldb) thread select 1\n").unwrap();
    let stacks = by_thread(stacks, lldb_thread);
    let registers: Vec<_> = rest.split("(lldb) register read\n").skip(1).collect();
    assert_eq!(registers.len(), threads.len(), "{told}");
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
