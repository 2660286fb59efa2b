//! A thread in the kernel's own debugger whose registers `makectx` has put into `kdb_pcb`, of kernels
//! whose pcbs have a place of their own for a trap's program counter: arm64 and riscv64 of 12.1.
//!
//! Offsets are those of FreeBSD 12.1's `sys/arm64/include/pcb.h` and `sys/riscv/include/pcb.h`, what is
//! written there is `makectx`'s (`machdep.c`).

use livecore_kernel::{Context, Kernel, Registers};

use super::world::{ARM64, Port, RISCV64, Wanted, World};

const TID: u32 = 100_071;
/// A program's, of the system call that the thread is in.
const PROGRAM: u64 = 0x21_02b8;

fn old(port: Port) -> Port {
    let pcb_size = if port.name == "riscv64" { 792 } else { 0x380 };
    Port {
        version: Some(1_201_000),
        pcb_size,
        ..port
    }
}

/// Names and offsets of what a trap's pcb has beside its program counter, and where that is.
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
    // Behind them 32 registers of 16 bytes, fcsr, fpflags.
    (all, 248 + 512 + 16)
}

/// The registers of the one thread, and those that are in its own `dumppcb`.
fn read(port: Port, pc: u64, dumped: bool) -> (Registers, Vec<(String, u64)>) {
    let mut world = World::new(port, &["kdb_enter", "panic"]);
    let (names, at_pc) = trapped(port);
    let kdb = world.variable("kdb_pcb", port.pcb_size);
    for (name, offset) in &names {
        let value = 0x7000 + offset;
        let link = world.function("kdb_enter") + 0x40;
        let is_link = name == "x30" || name == "ra";
        world.word(kdb + offset, if is_link { link } else { value });
    }
    world.word(kdb + at_pc, pc);
    let pcb = world.variable("dumppcb", port.pcb_size);
    for (_, offset) in &names {
        world.word(pcb + offset, 0x9000 + offset);
    }
    let dumptid = world.variable("dumptid", 4);
    world.put(dumptid, 4, if dumped { u64::from(TID) } else { 0 });
    let active = world.variable("kdb_active", 1);
    world.put(active, 1, 1);
    let stopped = world.variable("stopped_cpus", 8);
    world.word(stopped, 0b10);
    let debugged = world.variable("kdb_thread", 8);
    let wanted = Wanted {
        tid: TID,
        name: "init",
        cpu: Some(0),
        pcb: 0,
    };
    let head = world.address("allproc");
    let made = world.list(head, &[(1, "init", &[wanted])]);
    world.word(debugged, made[0].1[0]);
    let (dump, elf) = world.made();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0].context, Context::Crashed);
    assert_eq!(kernel.is_of_program(kdb), pc == PROGRAM);
    (kernel.registers(&threads[0]).unwrap(), names)
}

#[test]
fn a_trap_s_program_counter_is_its_own_and_not_its_function_s_return_address() {
    for port in [ARM64, RISCV64].map(old) {
        let pc = port.base + 0x84;
        // That another dump names the thread changes nothing.
        for dumped in [false, true] {
            let (found, names) = read(port, pc, dumped);
            assert_eq!(found.pc(), Some(pc));
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

/// 12.1's arm64 gives its debugger the frame of the system call.
#[test]
fn a_program_s_registers_say_nothing_where_the_kernel_s_own_were_dumped() {
    for port in [ARM64, RISCV64].map(old) {
        let (found, _) = read(port, PROGRAM, false);
        assert_eq!(found.pc(), Some(PROGRAM), "nothing else is known");
        let (found, _) = read(port, PROGRAM, true);
        let (pc, at) = match port.name {
            "arm64" => ("x30", 240),
            _ => ("ra", 0),
        };
        assert_eq!(found.get(pc), Some(0x9000 + at));
        assert_eq!(found.pc(), Some(0x9000 + at));
    }
}
