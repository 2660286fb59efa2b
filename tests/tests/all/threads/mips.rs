//! Registers and backtraces of mips, where frames are found by the prologues of functions.
//!
//! Frames follow the o32 and n64 calling conventions and FreeBSD 12.1's `sys/mips/mips/exception.S`.

use livecore_kernel::{End, Kernel};
use livecore_minidump::{KernelElf, VirtAddr};

use super::builder::{KernelBuilder, MIPS, MIPS64, MIPSEL, NewThread, Port};

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

/// Functions with a frame, its size, and the offset of the return address.
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

/// A kernel with these functions and their prologues.
fn builder(port: Port) -> KernelBuilder {
    let mut functions = FUNCTIONS.to_vec();
    functions.push("doadump");
    let mut builder = KernelBuilder::new(port, &functions);
    for (name, frame, ra) in FRAMES {
        let at = builder.function(name);
        let wide = port.word == 8;
        // addiu v0, zero, 1, which is not part of the prologue.
        builder.put(at, 4, 0x2402_0001);
        builder.put(
            at + 4,
            4,
            (if wide { 0x67bd } else { 0x27bd }) << 16 | (0x1_0000 - frame),
        );
        // s0, then ra.
        builder.put(at + 8, 4, (if wide { 0xffb0 } else { 0xafb0 }) << 16 | 8);
        builder.put(at + 12, 4, (if wide { 0xffbf } else { 0xafbf }) << 16 | ra);
        // Another store of ra: only the first counts.
        builder.put(
            at + 0x20,
            4,
            (if wide { 0xffbf } else { 0xafbf }) << 16 | 0x7ff8,
        );
        // The epilogue, after all calls.
        builder.put(
            at + 0xf0,
            4,
            (if wide { 0x67bd } else { 0x27bd }) << 16 | frame,
        );
    }
    builder
}

/// Writes the frame of `name` at stack pointer `sp` with return address `back`. Returns its caller's
/// stack pointer.
fn frame(builder: &mut KernelBuilder, name: &str, sp: u64, back: u64) -> u64 {
    let (_, len, ra) = *FRAMES.iter().find(|f| f.0 == name).unwrap();
    builder.word(sp + ra, back);
    sp + len
}

/// Writes a trap frame. Register numbers are those of `regnum.h`.
fn trap_frame(builder: &mut KernelBuilder, at: u64, registers: &[(u64, u64)]) {
    let word = builder.port.word;
    for register in 0..40 {
        builder.word(at + register * word, 0x11_0000 + register);
    }
    for (register, value) in registers {
        builder.word(at + register * word, *value);
    }
}

const SP: u64 = 29;
const RA: u64 = 31;
const SR: u64 = 32;
const BADVADDR: u64 = 35;
const CAUSE: u64 = 36;
const PC: u64 = 37;

/// Size of the call frame before a trap frame.
fn call_frame(port: Port) -> u64 {
    if port.word == 8 { 32 } else { 24 }
}

/// Writes the context in a pcb.
fn save(builder: &mut KernelBuilder, pcb: u64, ra: u64, sp: u64) {
    let word = builder.port.word;
    let context = pcb + if word == 8 { 592 } else { 296 };
    for i in 0..14 {
        builder.word(context + i * word, 0x100 + i);
    }
    builder.word(context + 8 * word, sp);
    builder.word(context + 10 * word, ra);
    // PCB_REG_PC is in the code that saves the context.
    let pc = builder.function("cpu_switch") + 0x40;
    builder.word(context + 13 * word, pc);
}

/// The registers and the backtrace, as text, of one thread with this pcb.
fn read(builder: &mut KernelBuilder, pcb: u64) -> (Vec<(&'static str, u64)>, Vec<String>) {
    let head = builder.address("allproc");
    let wanted = NewThread {
        tid: 100_001,
        name: "",
        cpu: None,
        pcb,
    };
    builder.list(head, &[(1, "init", &[wanted])]);
    let (dump, elf) = builder.build();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    let registers = kernel.registers(&threads[0]).unwrap();
    let mut lines = Vec::new();
    for frame in kernel.stack(&registers) {
        let (name, offset) = frame.function.clone().unwrap_or_default();
        lines.push(format!("{name}+{offset:#x} sp {:#x}", frame.fp));
        lines.extend(frame.trap.as_ref().map(ToString::to_string));
        lines.extend(frame.ends.map(|end| format!("{end:?}")));
    }
    (registers.known().collect(), lines)
}

#[test]
fn threads_registers_and_stacks_of_mips() {
    for port in PORTS {
        let mut builder = builder(port);
        let pcb = builder.allocate(port.pcb_size);
        let sp = builder.stack(0) - 0x400;
        let function = |builder: &KernelBuilder, name: &str, by| builder.function(name) + by;
        let back = function(&builder, "sleepq_wait", 0x44);
        let second = frame(&mut builder, "sched_switch", sp, back);
        let back = function(&builder, "fork_exit", 0x80);
        let third = frame(&mut builder, "sleepq_wait", second, back);
        let back = function(&builder, "fork_trampoline", 0x10);
        let last = frame(&mut builder, "fork_exit", third, back);
        let ra = function(&builder, "sched_switch", 0x58);
        save(&mut builder, pcb, ra, sp);
        let (registers, lines) = read(&mut builder, pcb);
        let s = (0..8).map(|i| {
            (
                ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"][i],
                0x100 + i as u64,
            )
        });
        let mut expected: Vec<_> = [("zero", 0)].into_iter().chain(s).collect();
        expected.extend([("gp", 0x10c), ("sp", sp), ("s8", 0x109), ("ra", ra)]);
        expected.extend([("sr", 0x10b), ("pc", ra)]);
        assert_eq!(registers, expected, "{}", port.name);
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

/// A fault during a system call: two trap frames, the outer one in the pcb.
#[test]
fn mips_backtrace_continues_through_trap_frames_to_user_mode() {
    for port in PORTS {
        let mut builder = builder(port);
        let skip = call_frame(port);
        let at = |builder: &KernelBuilder, name: &str, by: u64| builder.function(name) + by;
        let pcb = builder.allocate(port.pcb_size);
        // The kernel stack starts below the pcb, which a trap from user mode fills.
        let top = builder.stack(0) - 0x400;
        let user = top + skip;
        trap_frame(
            &mut builder,
            user,
            &[
                (SP, 0x7fff_0000),
                (SR, 0xfc13),
                (CAUSE, 8 << 2),
                (PC, 0x40_1234),
            ],
        );
        let second = top - 96;
        let back = at(&builder, "MipsUserGenException", 0x60);
        assert_eq!(frame(&mut builder, "trap", second, back), top);
        // `leaf` is a leaf function: its return address is only in ra.
        let faulted = second;
        let inner = faulted - 0x200;
        let leaf = [
            (SP, faulted),
            (RA, at(&builder, "trap", 0x84)),
            (SR, 0xfc03),
            (BADVADDR, 0x1c),
            (CAUSE, 2 << 2),
            (PC, at(&builder, "leaf", 0x14)),
        ];
        trap_frame(&mut builder, inner + skip, &leaf);
        let handler = inner - 96;
        let back = at(&builder, "MipsKernGenException", 0x70);
        frame(&mut builder, "trap", handler, back);
        let sp = handler - 24;
        let back = at(&builder, "trap", 0x50);
        frame(&mut builder, "doadump", sp, back);
        let ra = at(&builder, "doadump", 0x28);
        save(&mut builder, pcb, ra, sp);
        let (_, lines) = read(&mut builder, pcb);
        let pc = at(&builder, "leaf", 0x14);
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

/// The interrupted address is after a label inside `mips_wait`, whose frame must be used.
#[test]
fn mips_frame_of_a_function_is_found_after_a_label_in_it() {
    for port in PORTS {
        let mut builder = builder(port);
        let at = |builder: &KernelBuilder, name: &str, by: u64| builder.function(name) + by;
        let pcb = builder.allocate(port.pcb_size);
        let idle = builder.stack(0) - 0x200;
        let back = at(&builder, "fork_exit", 0x40);
        let outer = frame(&mut builder, "mips_wait", idle, back);
        let back = at(&builder, "fork_trampoline", 0x10);
        let last = frame(&mut builder, "fork_exit", outer, back);
        let inner = idle - 0x200;
        let pc = at(&builder, "mips_wait", 0x88);
        trap_frame(
            &mut builder,
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
        let back = at(&builder, "MipsKernIntr", 0x74);
        frame(&mut builder, "cpu_intr", sp, back);
        let ra = at(&builder, "cpu_intr", 0x30);
        save(&mut builder, pcb, ra, sp);
        let label = at(&builder, "mips_wait", 0x80);
        builder.label("MipsWaitStart", label);
        let (_, lines) = read(&mut builder, pcb);
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

/// The program counter is zero, and the callee has not changed any register.
#[test]
fn mips_backtrace_of_a_null_pointer_call_continues_at_its_caller() {
    for port in PORTS {
        let mut builder = builder(port);
        let at = |builder: &KernelBuilder, name: &str, by: u64| builder.function(name) + by;
        let pcb = builder.allocate(port.pcb_size);
        let faulted = builder.stack(0) - 0x200;
        let back = at(&builder, "_start", 0x20);
        let last = frame(&mut builder, "mi_startup", faulted, back);
        let inner = faulted - 0x200;
        let registers = [
            (SP, faulted),
            (RA, at(&builder, "mi_startup", 0x4c)),
            (SR, 0xfc03),
            (BADVADDR, 0),
            (CAUSE, 2 << 2),
            (PC, 0),
        ];
        trap_frame(&mut builder, inner + call_frame(port), &registers);
        let sp = inner - 96;
        let back = at(&builder, "MipsKernGenException", 0x70);
        frame(&mut builder, "trap", sp, back);
        let ra = at(&builder, "trap", 0x50);
        save(&mut builder, pcb, ra, sp);
        let (_, lines) = read(&mut builder, pcb);
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
fn mips_backtraces_state_why_they_end() {
    for port in PORTS {
        let mut lost = builder(port);
        let pcb = lost.allocate(port.pcb_size);
        let sp = lost.stack(0) - 0x200;
        // The return address was overwritten.
        frame(&mut lost, "sched_switch", sp, 0x1234_5678);
        let ra = lost.function("sched_switch") + 0x58;
        save(&mut lost, pcb, ra, sp);
        let (_, lines) = read(&mut lost, pcb);
        assert_eq!(
            lines[1..],
            [format!("{:?}", End::NotCode(VirtAddr(0x1234_5678)))],
            "{}",
            port.name
        );

        let mut flat = builder(port);
        let pcb = flat.allocate(port.pcb_size);
        let ra = flat.function("leaf") + 0x58;
        save(&mut flat, pcb, ra, sp);
        let (_, lines) = read(&mut flat, pcb);
        assert_eq!(lines[1..], ["SavesNone"], "{}", port.name);

        // A stack that is not in the dump.
        let mut gone = builder(port);
        let pcb = gone.allocate(port.pcb_size);
        let ra = gone.function("sched_switch") + 0x58;
        save(&mut gone, pcb, ra, 0x1000);
        let (_, lines) = read(&mut gone, pcb);
        let why = lines[1].strip_prefix("Unreadable(");
        assert!(why.is_some_and(|why| why.contains("0x1")), "{lines:?}");
    }
}

/// The ELF class determines the register width, not the size of the pcb.
#[test]
fn mips_register_width_is_that_of_the_kernel_file() {
    for port in PORTS {
        let odd = Port {
            pcb_size: port.pcb_size + 64,
            ..port
        };
        let mut builder = builder(odd);
        let pcb = builder.allocate(odd.pcb_size);
        let sp = builder.stack(0) - 0x200;
        let ra = builder.function("leaf") + 8;
        save(&mut builder, pcb, ra, sp);
        let (registers, _) = read(&mut builder, pcb);
        assert!(registers.contains(&("sp", sp)), "{}", port.name);
        assert!(registers.contains(&("ra", ra)), "{}", port.name);
        let (_, elf) = builder.files();
        let elf = KernelElf::from_bytes(elf).unwrap();
        assert_eq!(elf.pointer_size() as u64, port.word);
    }
}
