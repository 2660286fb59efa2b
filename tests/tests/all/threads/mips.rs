//! Registers and call chains of mips: functions' first instructions tell where their frames are.
//!
//! Instructions are written as the MIPS architecture encodes them; frames as the o32 and n64 calling
//! conventions and FreeBSD 12.1 `sys/mips/mips/exception.S` have them.

use livecore_kernel::Kernel;
use livecore_minidump::KernelElf;

use super::world::{MIPS, MIPS64, MIPSEL, Port, Wanted, World};

const PORTS: [Port; 3] = [MIPS, MIPSEL, MIPS64];

const FUNCTIONS: [&str; 15] = [
    "btext",
    "_start",
    "mi_startup",
    "cpu_switch",
    "sched_switch",
    "sleepq_wait",
    "fork_exit",
    "fork_trampoline",
    "leaf",
    "trap",
    "cpu_intr",
    "MipsKernGenException",
    "MipsUserGenException",
    "MipsKernIntr",
    "mips_wait",
];

/// Frames of the functions that have one, and where they keep their return address.
const FRAMES: [(&str, u64, u64); 8] = [
    ("mi_startup", 48, 40),
    ("sched_switch", 64, 56),
    ("sleepq_wait", 32, 24),
    ("fork_exit", 40, 32),
    ("trap", 96, 88),
    ("cpu_intr", 56, 48),
    ("doadump", 24, 16),
    ("mips_wait", 32, 24),
];

/// A kernel of these functions, each with its prologue.
fn world(port: Port) -> World {
    let mut functions = FUNCTIONS.to_vec();
    functions.push("doadump");
    let mut world = World::new(port, &functions);
    for (name, frame, ra) in FRAMES {
        let at = world.function(name);
        let wide = port.word == 8;
        // A word that only begins like a prologue: addiu sp, sp, 16.
        world.put(at, 4, 0x2402_0001);
        world.put(
            at + 4,
            4,
            (if wide { 0x67bd } else { 0x27bd }) << 16 | (0x1_0000 - frame),
        );
        // s0, then ra.
        world.put(at + 8, 4, (if wide { 0xffb0 } else { 0xafb0 }) << 16 | 8);
        world.put(at + 12, 4, (if wide { 0xffbf } else { 0xafbf }) << 16 | ra);
        // A saved ra of somebody else's: only the first counts.
        world.put(
            at + 0x20,
            4,
            (if wide { 0xffbf } else { 0xafbf }) << 16 | 0x7ff8,
        );
        // Its epilogue, behind all that is called.
        world.put(
            at + 0xf0,
            4,
            (if wide { 0x67bd } else { 0x27bd }) << 16 | frame,
        );
    }
    world
}

/// Lays the frame of `name`, whose stack pointer is `sp`, and which returns to `back`; gives its
/// caller's stack pointer.
fn frame(world: &mut World, name: &str, sp: u64, back: u64) -> u64 {
    let (_, len, ra) = *FRAMES.iter().find(|f| f.0 == name).unwrap();
    world.word(sp + ra, back);
    sp + len
}

/// Lays a trap frame: register numbers as `regnum.h` has them.
fn trap_frame(world: &mut World, at: u64, registers: &[(u64, u64)]) {
    let word = world.port.word;
    for register in 0..40 {
        world.word(at + register * word, 0x11_0000 + register);
    }
    for (register, value) in registers {
        world.word(at + register * word, *value);
    }
}

const SP: u64 = 29;
const RA: u64 = 31;
const SR: u64 = 32;
const BADVADDR: u64 = 35;
const CAUSE: u64 = 36;
const PC: u64 = 37;

/// Bytes of the call frame in front of a trap frame.
fn call_frame(port: Port) -> u64 {
    if port.word == 8 { 32 } else { 24 }
}

/// Writes the context of a pcb.
fn save(world: &mut World, pcb: u64, ra: u64, sp: u64) {
    let word = world.port.word;
    let context = pcb + if word == 8 { 592 } else { 296 };
    for i in 0..14 {
        world.word(context + i * word, 0x100 + i);
    }
    world.word(context + 8 * word, sp);
    world.word(context + 10 * word, ra);
    // PCB_REG_PC lies within the code that saves.
    let pc = world.function("cpu_switch") + 0x40;
    world.word(context + 13 * word, pc);
}

/// One thread with its pcb, and what a reader makes of it.
fn read(world: &mut World, pcb: u64) -> (Vec<(&'static str, u64)>, Vec<String>) {
    let head = world.address("allproc");
    let wanted = Wanted {
        tid: 100_001,
        name: "",
        cpu: None,
        pcb,
    };
    world.list(head, &[(1, "init", &[wanted])]);
    let (dump, elf) = world.made();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    let registers = kernel.registers(&threads[0]).unwrap();
    let mut lines = Vec::new();
    for frame in kernel.stack(&registers) {
        let (name, offset) = frame.function.clone().unwrap_or_default();
        lines.push(format!("{name}+{offset:#x} sp {:#x}", frame.fp));
        lines.extend(frame.trap.as_ref().map(ToString::to_string));
        lines.extend(frame.ends.map(|why| why.to_string()));
    }
    (registers.known().collect(), lines)
}

#[test]
fn threads_registers_and_stacks_of_mips() {
    for port in PORTS {
        let mut world = world(port);
        let pcb = world.allocate(port.pcb_size);
        let sp = world.stack(0) - 0x400;
        let function = |world: &World, name: &str, by| world.function(name) + by;
        let back = function(&world, "sleepq_wait", 0x44);
        let second = frame(&mut world, "sched_switch", sp, back);
        let back = function(&world, "fork_exit", 0x80);
        let third = frame(&mut world, "sleepq_wait", second, back);
        let back = function(&world, "fork_trampoline", 0x10);
        let last = frame(&mut world, "fork_exit", third, back);
        let ra = function(&world, "sched_switch", 0x58);
        save(&mut world, pcb, ra, sp);
        let (registers, lines) = read(&mut world, pcb);
        let s = (0..8).map(|i| {
            (
                ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"][i],
                0x100 + i as u64,
            )
        });
        let mut told: Vec<_> = [("zero", 0)].into_iter().chain(s).collect();
        told.extend([("gp", 0x10c), ("sp", sp), ("s8", 0x109), ("ra", ra)]);
        told.extend([("sr", 0x10b), ("pc", ra)]);
        assert_eq!(registers, told, "{}", port.name);
        assert_eq!(
            lines,
            [
                format!("sched_switch+0x58 sp {sp:#x}"),
                format!("sleepq_wait+0x44 sp {second:#x}"),
                format!("fork_exit+0x80 sp {third:#x}"),
                format!("fork_trampoline+0x10 sp {last:#x}"),
            ],
            "{}",
            port.name
        );
    }
}

/// A fault in the kernel in a system call: two trap frames, the outer one in the pcb itself.
#[test]
fn trap_frames_of_mips_are_passed_up_to_user_mode() {
    for port in PORTS {
        let mut world = world(port);
        let skip = call_frame(port);
        let at = |world: &World, name: &str, by: u64| world.function(name) + by;
        let pcb = world.allocate(port.pcb_size);
        // The kernel's stack of a thread begins below its pcb, which a trap from user mode fills.
        let top = world.stack(0) - 0x400;
        let user = top + skip;
        trap_frame(
            &mut world,
            user,
            &[
                (SP, 0x7fff_0000),
                (SR, 0xfc13),
                (CAUSE, 8 << 2),
                (PC, 0x40_1234),
            ],
        );
        let second = top - 96;
        let back = at(&world, "MipsUserGenException", 0x60);
        assert_eq!(frame(&mut world, "trap", second, back), top);
        // `leaf` had called nothing: its return address is in its register only.
        let faulted = second;
        let inner = faulted - 0x200;
        let leaf = [
            (SP, faulted),
            (RA, at(&world, "trap", 0x84)),
            (SR, 0xfc03),
            (BADVADDR, 0x1c),
            (CAUSE, 2 << 2),
            (PC, at(&world, "leaf", 0x14)),
        ];
        trap_frame(&mut world, inner + skip, &leaf);
        let handler = inner - 96;
        let back = at(&world, "MipsKernGenException", 0x70);
        frame(&mut world, "trap", handler, back);
        let sp = handler - 24;
        let back = at(&world, "trap", 0x50);
        frame(&mut world, "doadump", sp, back);
        let ra = at(&world, "doadump", 0x28);
        save(&mut world, pcb, ra, sp);
        let (_, lines) = read(&mut world, pcb);
        let pc = at(&world, "leaf", 0x14);
        assert_eq!(
            lines,
            [
                format!("doadump+0x28 sp {sp:#x}"),
                format!("trap+0x50 sp {handler:#x}"),
                format!("MipsKernGenException+0x70 sp {inner:#x}"),
                format!(
                    "--- exception, cause 0x8, badvaddr 0x1c, pc = {pc:#x}, sp = {faulted:#x} ---"
                ),
                format!("leaf+0x14 sp {faulted:#x}"),
                format!("trap+0x84 sp {second:#x}"),
                format!("MipsUserGenException+0x60 sp {top:#x}"),
                "--- syscall, pc = 0x401234, sp = 0x7fff0000 ---".to_string(),
            ],
            "{}",
            port.name
        );
    }
}

/// An interrupt of a function behind a label of its own: the function's frame counts.
#[test]
fn an_idle_cpu_of_mips_was_interrupted_behind_a_label_of_mips_wait() {
    for port in PORTS {
        let mut world = world(port);
        let at = |world: &World, name: &str, by: u64| world.function(name) + by;
        let pcb = world.allocate(port.pcb_size);
        let idle = world.stack(0) - 0x200;
        let back = at(&world, "fork_exit", 0x40);
        let outer = frame(&mut world, "mips_wait", idle, back);
        let back = at(&world, "fork_trampoline", 0x10);
        let last = frame(&mut world, "fork_exit", outer, back);
        let inner = idle - 0x200;
        let pc = at(&world, "mips_wait", 0x88);
        trap_frame(
            &mut world,
            inner + call_frame(port),
            &[
                (SP, idle),
                (RA, 0x1234),
                (SR, 0xfc03),
                (CAUSE, 0x400),
                (PC, pc),
            ],
        );
        let sp = inner - 56;
        let back = at(&world, "MipsKernIntr", 0x74);
        frame(&mut world, "cpu_intr", sp, back);
        let ra = at(&world, "cpu_intr", 0x30);
        save(&mut world, pcb, ra, sp);
        let label = at(&world, "mips_wait", 0x80);
        world.label("MipsWaitStart", label);
        let (_, lines) = read(&mut world, pcb);
        assert_eq!(
            lines,
            [
                format!("cpu_intr+0x30 sp {sp:#x}"),
                format!("MipsKernIntr+0x74 sp {inner:#x}"),
                format!("--- interrupt, pc = {pc:#x}, sp = {idle:#x} ---"),
                format!("MipsWaitStart+0x8 sp {idle:#x}"),
                format!("fork_exit+0x40 sp {outer:#x}"),
                format!("fork_trampoline+0x10 sp {last:#x}"),
            ],
            "{}",
            port.name
        );
    }
}

/// The commonest of panics: the program counter is zero, and the call has done nothing yet.
#[test]
fn a_call_of_a_null_pointer_is_followed_to_its_caller_on_mips() {
    for port in PORTS {
        let mut world = world(port);
        let at = |world: &World, name: &str, by: u64| world.function(name) + by;
        let pcb = world.allocate(port.pcb_size);
        let faulted = world.stack(0) - 0x200;
        let back = at(&world, "_start", 0x20);
        let last = frame(&mut world, "mi_startup", faulted, back);
        let inner = faulted - 0x200;
        let registers = [
            (SP, faulted),
            (RA, at(&world, "mi_startup", 0x4c)),
            (SR, 0xfc03),
            (BADVADDR, 0),
            (CAUSE, 2 << 2),
            (PC, 0),
        ];
        trap_frame(&mut world, inner + call_frame(port), &registers);
        let sp = inner - 96;
        let back = at(&world, "MipsKernGenException", 0x70);
        frame(&mut world, "trap", sp, back);
        let ra = at(&world, "trap", 0x50);
        save(&mut world, pcb, ra, sp);
        let (_, lines) = read(&mut world, pcb);
        assert_eq!(
            lines[3..],
            [
                format!("+0x0 sp {faulted:#x}"),
                format!("mi_startup+0x4c sp {faulted:#x}"),
                format!("_start+0x20 sp {last:#x}"),
            ],
            "{}: {lines:?}",
            port.name
        );
    }
}

#[test]
fn a_chain_of_mips_that_goes_no_further_says_why() {
    for port in PORTS {
        let mut lost = world(port);
        let pcb = lost.allocate(port.pcb_size);
        let sp = lost.stack(0) - 0x200;
        // Its return address was overwritten.
        frame(&mut lost, "sched_switch", sp, 0x1234_5678);
        let ra = lost.function("sched_switch") + 0x58;
        save(&mut lost, pcb, ra, sp);
        let (_, lines) = read(&mut lost, pcb);
        assert_eq!(
            lines[1..],
            ["its return address 0x12345678 is not code"],
            "{}",
            port.name
        );

        let mut flat = world(port);
        let pcb = flat.allocate(port.pcb_size);
        let ra = flat.function("leaf") + 0x58;
        save(&mut flat, pcb, ra, sp);
        let (_, lines) = read(&mut flat, pcb);
        assert_eq!(lines[1..], ["it saves no return address"], "{}", port.name);

        // A stack that is not in the dump.
        let mut gone = world(port);
        let pcb = gone.allocate(port.pcb_size);
        let ra = gone.function("sched_switch") + 0x58;
        save(&mut gone, pcb, ra, 0x1000);
        let (_, lines) = read(&mut gone, pcb);
        let why = lines[1].strip_prefix("its frame cannot be read: ");
        assert!(why.is_some_and(|why| why.contains("0x1")), "{lines:?}");
    }
}

/// A pcb's size says how wide registers are no more than the kernel's file does: that decides.
#[test]
fn registers_of_mips_are_as_wide_as_the_kernels_file_says() {
    for port in PORTS {
        let odd = Port {
            pcb_size: port.pcb_size + 64,
            ..port
        };
        let mut world = world(odd);
        let pcb = world.allocate(odd.pcb_size);
        let sp = world.stack(0) - 0x200;
        let ra = world.function("leaf") + 8;
        save(&mut world, pcb, ra, sp);
        let (registers, _) = read(&mut world, pcb);
        assert!(registers.contains(&("sp", sp)), "{}", port.name);
        assert!(registers.contains(&("ra", ra)), "{}", port.name);
        let (_, elf) = world.files();
        let elf = KernelElf::from_bytes(elf).unwrap();
        assert_eq!(elf.pointer_size() as u64, port.word);
    }
}
