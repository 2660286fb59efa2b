//! gdb and lldb as packaged by Debian, connected to a dump that a real kernel wrote.
//!
//! Expected values are from the README of the dump, which were read with LLDB and with libkvm.

use serde_json::Value;

use crate::debuggers::{GDB, gdb, have, lldb, remote};
use crate::harness::run;
use crate::real::{Real, frames_of, real};
use crate::served::Server;

/// The first threads of the real dump, in the order of its lists. They and the number of threads
/// are from the README.
const REAL_FIRST: [&str; 3] = [
    "(pid 800) sysctl (crashed)",
    "(pid 28) pagedaemon/dom0 (on CPU 4)",
    "(pid 28) pagedaemon/laundry: dom0",
];
/// The crashed thread's registers.
const REAL_REGISTERS: [(&str, u64); 8] = [
    ("rip", 0xffff_ffff_80c0_9ade),
    ("rsp", 0xffff_fe00_798c_4748),
    ("rbp", 0xffff_fe00_798c_4760),
    ("rbx", 0),
    ("r12", 0xffff_fe00_45b1_1c00),
    ("r13", 0xffff_f800_0336_93a8),
    ("r14", 0),
    ("r15", 0xffff_f800_0336_9380),
];
/// Return addresses along the frame pointers.
const REAL_CHAIN: [&str; 10] = [
    "ffffffff80c09916",
    "ffffffff80c09d90",
    "ffffffff80c09b93",
    "ffffffff80c57d91",
    "ffffffff80c19e71",
    "ffffffff80c192bc",
    "ffffffff80c19933",
    "ffffffff80c1977f",
    "ffffffff8108ba8c",
    "ffffffff810620ce",
];

fn serve_real(real: &Real) -> Server {
    Server::start([
        real.dump.as_os_str(),
        "--kernel".as_ref(),
        real.kernel.as_os_str(),
    ])
}

#[test]
fn gdb_reads_the_values_of_the_real_dump() {
    let Some(real) = real() else { return };
    if !have(GDB) {
        return;
    }
    let server = serve_real(real);
    let printed = gdb(
        &[&remote(&server)],
        &[
            "info threads",
            "print (int)hz",
            "print *(int *)&dumptid",
            "print/x *(long *)&allproc",
            "info registers",
            "monitor bt",
            "thread 2",
            "info registers",
        ],
    );
    let list: Vec<_> = printed
        .lines()
        .filter(|l| l.contains(" Thread ") && l.contains('"'))
        .collect();
    assert_eq!(list.len(), 16, "{printed}");
    for (line, name) in list.iter().zip(REAL_FIRST) {
        assert!(line.contains(&format!("\"{name}\"")), "{line}");
    }
    for value in ["= 100\n", "= 100670\n", "= 0xfffff80002c3b528\n"] {
        assert!(printed.contains(value), "{value}: {printed}");
    }
    let (first, second) = printed.split_once("Switching to thread 2").unwrap();
    let has = |text: &str, register: &str, value: u64| {
        let value = format!("{value:#x}");
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(register) && words.next() == Some(value.as_str())
        })
    };
    for (register, value) in REAL_REGISTERS {
        assert!(has(first, register, value), "{register}: {printed}");
    }
    // Thread 1 of the README, which counts from 0.
    let second_registers = [
        ("rip", 0xffff_ffff_8105_7988),
        ("rsp", 0xffff_fe00_008e_2de8),
        ("rbp", 0xffff_fe00_008e_2e00),
    ];
    for (register, value) in second_registers {
        assert!(has(second, register, value), "{register}: {printed}");
    }
    // gdb's unwinder needs functions, which this kernel file lacks. Output of monitor commands goes
    // to gdb's standard error.
    let chain: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with('#') && !line.contains(" in "))
        .filter_map(|line| line.split_once("0x").map(|(_, pc)| pc.trim()))
        .collect();
    assert_eq!(chain[chain.len() - 10..], REAL_CHAIN, "{printed}");
}

#[test]
fn lldb_reads_the_values_of_the_real_dump() {
    let Some(real) = real() else { return };
    if !have("lldb") {
        return;
    }
    let server = serve_real(real);
    let printed = lldb(
        &real.kernel,
        server.address(),
        &[
            "thread list",
            "register read",
            "thread backtrace all",
            "memory read -f d -s 4 -c 1 &hz",
            "memory read -f x -s 4 -c 1 &dumptid",
            "memory read -f x -s 8 -c 1 &allproc",
            "process plugin packet monitor bt",
        ],
    );
    assert_eq!(printed.matches(": tid = ").count(), 16, "{printed}");
    for (number, name) in (1..).zip(REAL_FIRST) {
        let line = printed
            .lines()
            .find(|l| l.contains(&format!("thread #{number}: tid = ")));
        assert!(
            line.unwrap().contains(&format!("name = '{name}'")),
            "{printed}"
        );
    }
    for (register, value) in REAL_REGISTERS {
        assert!(
            printed.contains(&format!(" {register} = {value:#018x}")),
            "{register}: {printed}"
        );
    }
    for value in [": 100\n", ": 0x0001893e\n", ": 0xfffff80002c3b528\n"] {
        assert!(printed.contains(value), "{value}: {printed}");
    }
    // Along frame pointers.
    let frames: Vec<_> = printed.lines().filter(|l| l.contains("frame #")).collect();
    for (number, pc) in (1..).zip(&REAL_CHAIN) {
        let frame = format!("frame #{number}: 0x{pc}");
        assert!(
            frames.iter().any(|l| l.contains(&frame)),
            "{frame}: {printed}"
        );
    }
    for pc in REAL_CHAIN {
        assert!(printed.contains(&format!(" 0x{pc}\n")), "{pc}: {printed}");
    }
}

/// Threads by their number in the list, with the number of frames in LLDB's own tests. lldb omits the
/// first frame of a kernel thread, whose frame pointer is zero.
const EXPECTED: [[(usize, usize); 3]; 2] =
    [[(0, 11), (1, 11), (2, 5)], [(0, 11), (1, 13), (10, 4)]];

#[test]
fn backtraces_through_the_server_are_as_long_as_those_of_threads() {
    let Some(real) = real() else { return };
    if !have(GDB) || !have("lldb") {
        return;
    }
    for (dump, expected) in [&real.dump, &real.full].into_iter().zip(EXPECTED) {
        let files = [
            dump.as_os_str(),
            "--kernel".as_ref(),
            real.kernel.as_os_str(),
        ];
        let args = ["threads", "-q", "--json"].map(AsRef::as_ref);
        let listed = run(args.into_iter().chain(files)).expect(3);
        let listed: Value = serde_json::from_slice(&listed.out).unwrap();
        let server = Server::start(files);
        let in_lldb = lldb(&real.kernel, server.address(), &["thread backtrace all"]);
        for (number, frames) in expected {
            let listed = listed["threads"][number]["frames"].as_array().unwrap();
            let began = usize::from(number > 0);
            assert_eq!(listed.len(), frames + began, "{dump:?}, thread {number}");
            assert_eq!(frames_of(&in_lldb, number + 1), frames, "{in_lldb}");
            // gdb's unwinder needs functions, which the kernel's file lacks.
            let select = format!("thread {}", number + 1);
            let in_gdb = gdb(&[&remote(&server)], &[&select, "monitor bt"]);
            let shown = in_gdb.lines().filter_map(|line| {
                let frame = line.strip_prefix('#').filter(|_| !line.contains(" in "))?;
                frame.split_whitespace().nth(1)
            });
            let pcs = listed.iter().map(|frame| frame["pc"].as_str().unwrap());
            assert!(shown.eq(pcs), "{dump:?}, thread {number}: {in_gdb}");
        }
    }
}
