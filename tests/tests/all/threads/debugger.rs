//! A thread in the kernel debugger, whose registers `makectx` saved in `kdb_pcb`, on kernels whose pcb has
//! a separate member for the program counter of a trap: arm64 and riscv64 of FreeBSD 12.1.
//!
//! Offsets are from FreeBSD 12.1's `sys/arm64/include/pcb.h` and `sys/riscv/include/pcb.h`, values as
//! `makectx` (`machdep.c`) writes them.

use livecore_kernel::{Context, Kernel, Registers};
use livecore_minidump::VirtAddr;

use super::builder::{ARM64, KernelBuilder, NewThread, Port, RISCV64};

const TID: u32 = 100_071;
/// A user-mode program counter, of the system call that the thread is in.
const PROGRAM: u64 = 0x21_02b8;

fn old(port: Port) -> Port {
    let pcb_size = if port.name == "riscv64" { 792 } else { 0x380 };
    Port {
        version: Some(1_201_000),
        pcb_size,
        ..port
    }
}

/// Names and offsets of the registers in the pcb of a trap, and the offset of its program counter.
fn trapped(port: Port) -> (Vec<(String, u64)>, u64) {
    let row = |letter: char, count: u64, from: u64| {
        (0..count).map(move |i| (format!("{letter}{i}"), from + 8 * i))
    };
    if port.name == "arm64" {
        let mut all: Vec<_> = row('x', 31, 0).collect();
        all.push(("sp".into(), 256));
        return (all, 248);
    }
    let first = ["ra", "sp", "gp", "tp"].map(String::from);
    let mut all: Vec<_> = first.into_iter().zip([0, 8, 16, 24]).collect();
    all.extend(row('t', 7, 32));
    all.extend(row('s', 12, 88));
    all.extend(row('a', 8, 184));
    all[11].0 = "fp".into();
    // Then 32 registers of 16 bytes, fcsr, fpflags.
    (all, 248 + 512 + 16)
}

/// The registers of the only thread, and the names and offsets of those in its pcb.
fn read(port: Port, pc: u64, dumped: bool) -> (Registers, Vec<(String, u64)>) {
    let mut builder = KernelBuilder::new(port, &["kdb_enter", "panic"]);
    let (names, at_pc) = trapped(port);
    let kdb = builder.variable("kdb_pcb", port.pcb_size);
    for (name, offset) in &names {
        let value = 0x7000 + offset;
        let link = builder.function("kdb_enter") + 0x40;
        let is_link = name == "x30" || name == "ra";
        builder.word(kdb + offset, if is_link { link } else { value });
    }
    builder.word(kdb + at_pc, pc);
    let pcb = builder.variable("dumppcb", port.pcb_size);
    for (_, offset) in &names {
        builder.word(pcb + offset, 0x9000 + offset);
    }
    let dumptid = builder.variable("dumptid", 4);
    builder.put(dumptid, 4, if dumped { u64::from(TID) } else { 0 });
    let active = builder.variable("kdb_active", 1);
    builder.put(active, 1, 1);
    let stopped = builder.variable("stopped_cpus", 8);
    builder.word(stopped, 0b10);
    let debugged = builder.variable("kdb_thread", 8);
    let wanted = NewThread {
        tid: TID,
        name: "init",
        cpu: Some(0),
        pcb: 0,
    };
    let head = builder.address("allproc");
    let made = builder.list(head, &[(1, "init", &[wanted])]);
    builder.word(debugged, made[0].1[0]);
    let (dump, elf) = builder.build();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0].context, Context::Crashed);
    assert_eq!(kernel.is_of_program(VirtAddr(kdb)), pc == PROGRAM);
    (kernel.registers(&threads[0]).unwrap(), names)
}

#[test]
fn program_counter_of_a_trap_is_not_the_link_register() {
    for port in [ARM64, RISCV64].map(old) {
        let pc = port.base + 0x84;
        // The result is the same if `dumptid` names the thread.
        for dumped in [false, true] {
            let (found, names) = read(port, pc, dumped);
            assert_eq!(found.pc(), Some(VirtAddr(pc)));
            for (name, offset) in names {
                let link = name == "x30" || name == "ra";
                let expected = if link {
                    port.base + 0x40
                } else {
                    0x7000 + offset
                };
                assert_eq!(found.get(&name), Some(expected), "{name}");
            }
        }
    }
}

/// On arm64, FreeBSD 12.1 passes the trap frame of the system call to its debugger.
#[test]
fn dumppcb_takes_precedence_over_user_mode_registers_in_kdb_pcb() {
    for port in [ARM64, RISCV64].map(old) {
        let (found, _) = read(port, PROGRAM, false);
        assert_eq!(found.pc(), Some(VirtAddr(PROGRAM)), "no other registers");
        let (found, _) = read(port, PROGRAM, true);
        let (pc, at) = match port.name {
            "arm64" => ("x30", 240),
            _ => ("ra", 0),
        };
        assert_eq!(found.get(pc), Some(0x9000 + at));
        assert_eq!(found.pc(), Some(VirtAddr(0x9000 + at)));
    }
}
