//! A kernel that panicked, with a thread that faulted in a system call, one on a stopped CPU, one that
//! sleeps, one on a CPU that was not stopped, and a zombie.
//!
//! Frames follow each architecture's calling convention, trap frames its entry code (FreeBSD
//! `exception.S`, `apic_vector.S`, `trap_subr.S`).

use std::collections::BTreeMap;

use super::builder::{KernelBuilder, NewThread, Port};
use super::forms::{pcb, roles, trap_frame};

/// Variants of a port's layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The newest layout.
    New,
    /// The previous layout.
    Old,
    /// The newest, with `stoppcbs` as an array.
    StoppcbsArray,
    /// The newest, with this entry for interrupts.
    Interrupt(&'static str),
    /// The newest, with a call of a null pointer as the fault.
    NullCall,
    /// The newest, with the entry code executed from a copy (i386).
    Copied,
}

/// The expected registers and backtrace of a thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) registers: BTreeMap<&'static str, u64>,
    /// Function, offset, address of the trap frame.
    pub(crate) frames: Vec<(String, u64, Option<u64>)>,
    /// The lines for trap frames.
    pub(crate) traps: Vec<String>,
}

pub(crate) struct Scene {
    pub(crate) builder: KernelBuilder,
    pub(crate) threads: Vec<Expected>,
}

/// The names of a port's entry code for a fault, a system call and an interrupt.
fn entries(port: Port, variant: Variant) -> [&'static str; 3] {
    let mut entries = match port.name {
        // 10.4 has no fast_syscall_common.
        "amd64" if port.version.is_some_and(|v| v < 1_100_000) => {
            ["calltrap", "Xfast_syscall", "Xcpustop"]
        }
        "amd64" => ["calltrap", "fast_syscall_common", "Xcpustop"],
        "i386" | "i386pae" => ["calltrap", "Xint0x80_syscall", "Xcpustop"],
        "arm64" => ["handle_el1h_sync", "handle_el0_sync", "handle_el1h_irq"],
        "riscv64" => [
            "cpu_exception_handler_supervisor",
            "cpu_exception_handler_user",
            "cpu_exception_handler_supervisor",
        ],
        "powerpc64" | "powerpc64le" => ["trapexit", "trapexit", "trapexit"],
        // All exceptions except system calls return to one label; the handler identifies them.
        _ => ["exception_exit", "swi_exit", "exception_exit"],
    };
    if let Variant::Interrupt(name) = variant {
        entries[2] = name;
    }
    entries
}

/// Distance of the copy of the entry code from its link address.
const DISPLACEMENT: u64 = 0xffc0_0000;

/// The interrupted context.
#[derive(Clone, Copy)]
struct Interrupted {
    pc: u64,
    sp: u64,
    fp: u64,
    user: bool,
    number: u64,
    /// The value of the link register, or of the word at the stack pointer.
    back: u64,
}

/// Writes the frame at `fp` of a function whose caller has frame pointer `caller` and continues at
/// `back`.
fn link(builder: &mut KernelBuilder, fp: u64, caller: u64, back: u64) {
    let word = builder.port.word;
    match builder.port.name {
        "riscv64" => {
            builder.word(fp - 16, caller);
            builder.word(fp - 8, back);
        }
        "powerpc64" | "powerpc64le" => {
            builder.word(fp, caller);
            builder.word(caller + 16, back);
        }
        _ => {
            builder.word(fp, caller);
            builder.word(fp + word, back);
        }
    }
}

/// Writes a trap frame at `at` and the frame of the function that the entry code calls, which returns to
/// `back`. Returns that function's frame pointer.
fn enter(
    builder: &mut KernelBuilder,
    entry: &str,
    at: u64,
    old: bool,
    back: u64,
    was: Interrupted,
) -> u64 {
    let form = trap_frame(builder.port, old);
    for i in 0..form.len / 4 {
        builder.put(at + 4 * i, 4, 0);
    }
    builder.put(at + form.pc.0, form.pc.1, was.pc);
    builder.put(at + form.fp.0, form.fp.1, was.fp);
    let is_i386 = builder.port.name.starts_with("i386");
    // The processor pushes the stack pointer only from user mode.
    if !is_i386 || was.user {
        builder.put(at + form.sp.0, form.sp.1, was.sp);
    }
    if builder.port.name == "arm" && was.user {
        // The user stack pointer is at another offset; swi_entry does not write the kernel's.
        builder.put(at + 56, 4, was.sp);
        builder.put(at + form.sp.0, 4, 0xdead_0000);
    }
    let mode = if was.user { form.mode.3 } else { form.mode.2 };
    builder.put(at + form.mode.0, form.mode.1, mode);
    builder.put(at + form.number.0, form.number.1, was.number);
    match builder.port.name {
        "amd64" if !was.user => builder.word(was.sp, was.back),
        "i386" | "i386pae" if !was.user => builder.word(at + 64, was.back),
        "arm64" => builder.word(at + 8, was.back),
        "riscv64" => builder.word(at, was.back),
        "powerpc64" | "powerpc64le" => builder.word(at + 256, was.back),
        "arm" => builder.word(at + if was.user { 60 } else { 68 }, was.back),
        _ => {}
    }
    match builder.port.name {
        "amd64" => {
            link(builder, at - 16, was.fp, back);
            at - 16
        }
        "i386" | "i386pae" => {
            let fp = match entry {
                "Xcpustop" => at - 8,
                "Xapic_isr1" => {
                    builder.put(at - 8, 4, 0x31);
                    builder.put(at - 4, 4, at);
                    at - 16
                }
                _ => {
                    builder.put(at - 4, 4, at);
                    at - 12
                }
            };
            link(builder, fp, was.fp, back);
            fp
        }
        "arm64" => {
            let record = at + form.len;
            builder.word(record, was.fp);
            builder.word(record + 8, was.back);
            link(builder, at - 0x40, record, back);
            at - 0x40
        }
        "riscv64" => {
            link(builder, at, was.fp, back);
            at
        }
        // The called function first pushes the link register and r11.
        "arm" => {
            link(builder, at - 8, was.fp, back);
            at - 8
        }
        _ => {
            let frame = at - 48;
            builder.word(frame, was.sp);
            link(builder, frame - 0x40, frame, back);
            frame - 0x40
        }
    }
}

/// Writes a pcb and returns the expected registers.
fn save(
    builder: &mut KernelBuilder,
    at: u64,
    old: bool,
    (pc, sp, fp): (u64, u64, u64),
) -> BTreeMap<&'static str, u64> {
    let [pc_name, sp_name, fp_name] = roles(builder.port);
    let mut registers = BTreeMap::new();
    for (i, (name, offset)) in pcb(builder.port, old).into_iter().enumerate() {
        let value = match name {
            _ if i == 0 => pc,
            name if name == sp_name => sp,
            name if name == fp_name => fp,
            _ => 0x100 + offset,
        };
        builder.word(at + offset, value);
        registers.insert(name, value);
    }
    registers.insert(pc_name, pc);
    if builder.port.name == "riscv64" {
        registers.insert("zero", 0);
    }
    registers
}

impl Scene {
    pub(crate) fn new(port: Port, variant: Variant) -> Self {
        Self::with_oncpu(port, variant, (0x70, 4))
    }

    pub(crate) fn with_oncpu(port: Port, variant: Variant, oncpu: (u64, u64)) -> Self {
        let old = variant == Variant::Old;
        let [fault, syscall, interrupt] = entries(port, variant);
        let mut functions = vec![
            "btext",
            "cpu_switch",
            "sched_switch",
            "mi_switch",
            "sleepq_wait",
            "fork_exit",
            "fork_trampoline",
            "doadump",
            "vpanic",
            "trap_handler",
            "faulting",
            "syscall_handler",
            "cpustop_handler",
            "intr_irq_handler",
            "cpu_idle",
        ];
        for entry in [fault, syscall, interrupt] {
            if !functions.contains(&entry) {
                functions.push(entry);
            }
        }
        let mut builder = KernelBuilder::with_oncpu(port, &functions, oncpu);
        let pcbs = [0; 3].map(|_| builder.allocate(port.pcb_size));
        let wanted = |tid, name, cpu, pcb| NewThread {
            tid,
            name,
            cpu,
            pcb,
        };
        let head = builder.address("allproc");
        builder.list(
            head,
            &[
                (
                    800,
                    "sysctl",
                    &[wanted(100_670, "sysctl", Some(0), pcbs[2])],
                ),
                (
                    28,
                    "pagedaemon",
                    &[
                        wanted(100_041, "dom0", Some(1), pcbs[2]),
                        wanted(100_042, "laundry: dom0", None, pcbs[0]),
                    ],
                ),
                (
                    11,
                    "idle",
                    &[wanted(100_004, "idle: cpu2", Some(2), pcbs[2])],
                ),
            ],
        );
        let head = builder.variable("zombproc", port.word);
        builder.list(
            head,
            &[(902, "true", &[wanted(100_777, "", None, pcbs[1])])],
        );
        let at = builder.variable("dumptid", 4);
        builder.put(at, 4, 100_670);
        let at = builder.variable("mp_maxid", 4);
        builder.put(at, 4, 3);
        let at = builder.variable("stopped_cpus", 32);
        builder.word(at, 1 << 1);
        if variant == Variant::Copied {
            let at = builder.variable("setidt_disp", 4);
            builder.put(at, 4, DISPLACEMENT);
        }
        let dumppcb = builder.variable("dumppcb", port.pcb_size);
        let stoppcbs = if variant == Variant::StoppcbsArray {
            builder.variable("stoppcbs", 3 * port.pcb_size)
        } else {
            let at = builder.variable("stoppcbs", port.word);
            let array = builder.allocate(2 * port.pcb_size);
            builder.word(at, array);
            array
        };

        let sleeping = sleeping(&mut builder, pcbs[0], old);
        let crashed = crashed(&mut builder, dumppcb, variant);
        let stopped = stopped(&mut builder, stoppcbs + port.pcb_size, variant);
        let mut zombie = Expected::default();
        let start = builder.function("fork_trampoline");
        let sp = builder.stack(5) - 0x80;
        // A frame pointer of 0, which on powerpc64 is the stack pointer.
        let fp = if roles(port)[1] == roles(port)[2] {
            sp
        } else {
            0
        };
        zombie.registers = save(&mut builder, pcbs[1], old, (start, sp, fp));
        zombie.frames = vec![("fork_trampoline".into(), 0, None)];
        let running = Expected {
            registers: BTreeMap::new(),
            ..Expected::default()
        };
        Self {
            builder,
            threads: vec![crashed, stopped, sleeping, running, zombie],
        }
    }
}

/// Frame pointer of the outermost function's caller.
fn outermost(builder: &KernelBuilder, top: u64) -> u64 {
    if builder.port.name.starts_with("powerpc") {
        top - 0x20
    } else {
        0
    }
}

/// Writes the arguments with which `fork_trampoline` calls a kernel thread's first function, whose frame
/// is at `fp`, below the thread's empty trap frame. Returns the address of the trap frame that is read,
/// and ddb's line for it: on i386 ddb reads it after two arguments, although there are three.
fn begin(builder: &mut KernelBuilder, fp: u64) -> (Option<u64>, Vec<String>) {
    match builder.port.name {
        "amd64" => {
            let line = "--- trap 0, rip = 0, rsp = 0, rbp = 0 ---";
            (Some(fp + 16), vec![line.into()])
        }
        "i386" | "i386pae" => {
            builder.put(fp + 16, 4, fp + 20);
            let at = fp + 12;
            let line = format!("--- trap 0, eip = 0, esp = {:#x}, ebp = 0 ---", at + 64);
            (Some(at), vec![line])
        }
        _ => (None, Vec::new()),
    }
}

fn frames(names: &[(&str, u64, Option<u64>)]) -> Vec<(String, u64, Option<u64>)> {
    names
        .iter()
        .map(|(name, offset, trap)| ((*name).to_string(), *offset, *trap))
        .collect()
}

/// A sleeping kernel thread.
fn sleeping(builder: &mut KernelBuilder, pcb: u64, old: bool) -> Expected {
    let top = builder.stack(0);
    let at = |builder: &KernelBuilder, name: &str, by: u64| builder.function(name) + by;
    let outer = outermost(builder, top);
    let back = at(builder, "fork_trampoline", 0xe);
    link(builder, top - 0x40, outer, back);
    let (trap, traps) = begin(builder, top - 0x40);
    let back = at(builder, "fork_exit", 0x80);
    link(builder, top - 0x80, top - 0x40, back);
    let back = at(builder, "sleepq_wait", 0x44);
    link(builder, top - 0xc0, top - 0x80, back);
    let back = at(builder, "mi_switch", 0xbb);
    link(builder, top - 0x100, top - 0xc0, back);
    let pc = at(builder, "sched_switch", 0x55);
    let fp = top - 0x100;
    let sp = stack_pointer(builder, fp);
    Expected {
        registers: save(builder, pcb, old, (pc, sp, fp)),
        frames: frames(&[
            ("sched_switch", 0x55, None),
            ("mi_switch", 0xbb, None),
            ("sleepq_wait", 0x44, None),
            ("fork_exit", 0x80, None),
            ("fork_trampoline", 0xe, trap),
        ]),
        traps,
    }
}

fn stack_pointer(builder: &KernelBuilder, fp: u64) -> u64 {
    if outermost(builder, 0x100) == 0 {
        fp - 0x40
    } else {
        fp
    }
}

/// Return address into the entry code, and the offset that is expected for it. The label of powerpc64
/// is after the slot that reloads the TOC.
fn resumes(builder: &KernelBuilder, variant: Variant, entry: &str, by: u64) -> (u64, u64) {
    if variant == Variant::Copied {
        return (
            (builder.function(entry) + by + DISPLACEMENT) & 0xffff_ffff,
            by,
        );
    }
    if builder.port.name.starts_with("powerpc") {
        (builder.function(entry) - 4, 0)
    } else if builder.port.name == "arm" {
        (builder.function(entry), 0)
    } else {
        (builder.function(entry) + by, by)
    }
}

/// ddb's line for a trap frame.
fn line(port: Port, entry: &str, was: Interrupted, frame_sp: u64) -> String {
    let [pc, sp, fp] = roles(port);
    let what = match (port.name, entry) {
        ("arm64", "handle_el1h_sync") => format!("exception, esr {:#x}", was.number),
        ("riscv64", _) if was.number >> 63 == 1 => {
            format!("interrupt {}", was.number & !(1 << 63))
        }
        ("riscv64", _) if was.number == 13 => "exception 13, tval = 0x0".into(),
        ("riscv64", _) => "syscall".into(),
        ("powerpc64" | "powerpc64le", _) if was.number == 0xc00 => "syscall".into(),
        ("powerpc64" | "powerpc64le", _) if was.number == 0x500 => "interrupt".into(),
        ("powerpc64" | "powerpc64le", _) => format!("trap {:#x}", was.number),
        ("arm", "swi_exit") => "syscall".into(),
        // The trap of the idle thread is an interrupt.
        ("arm", _) if was.back != 0 => "exception".into(),
        (_, "calltrap") => format!("trap {:#x}", was.number),
        (_, "fast_syscall_common" | "Xfast_syscall" | "Xint0x80_syscall" | "handle_el0_sync") => {
            "syscall".into()
        }
        _ => "interrupt".into(),
    };
    let third = if fp == sp {
        String::new()
    } else {
        format!(", {fp} = {:#x}", was.fp)
    };
    let at = match was.pc {
        0 => "0".into(),
        pc => format!("{pc:#x}"),
    };
    format!("--- {what}, {pc} = {at}, {sp} = {frame_sp:#x}{third} ---")
}

/// The stack pointer of a trap frame. On i386 the frame contains only that of user mode; otherwise it
/// is the address at which it would be.
fn frame_sp(port: Port, at: u64, was: Interrupted) -> u64 {
    if port.name.starts_with("i386") && !was.user {
        at + 64
    } else {
        was.sp
    }
}

/// A thread of a user process that faulted in a system call and dumped.
fn crashed(builder: &mut KernelBuilder, pcb: u64, variant: Variant) -> Expected {
    let (port, old) = (builder.port, variant == Variant::Old);
    let [fault, syscall, _] = entries(port, variant);
    let top = builder.stack(1);
    let same = roles(port)[1] == roles(port)[2];

    // The system call from user mode.
    let outer = top - 0x180;
    let user_sp = 0x7f00_0010;
    let user = Interrupted {
        pc: 0x20_1234,
        sp: user_sp,
        fp: if same { user_sp } else { 0x7f00_0040 },
        user: true,
        number: match port.name {
            "arm64" => 0x5600_0000,
            "riscv64" => 8,
            "powerpc64" | "powerpc64le" => 0xc00,
            _ => 0,
        },
        back: 0x20_5678,
    };
    let (back, syscall_offset) = resumes(builder, variant, syscall, 9);
    let handler = enter(builder, syscall, outer, old, back, user);
    // The function that faults.
    let fp = outer - 0xc0;
    let back = builder.function("syscall_handler") + 0x40;
    link(builder, fp, handler, back);
    let inner = fp - 0x1c0;
    let null = variant == Variant::NullCall;
    let back = builder.function("faulting") + 0x5c;
    let was = Interrupted {
        pc: if null { 0 } else { back },
        sp: if same { fp } else { fp - 0x20 },
        fp,
        user: false,
        number: match port.name {
            "arm64" => 0x9600_0045,
            "riscv64" => 13,
            "powerpc64" | "powerpc64le" => 0x300,
            _ => 12,
        },
        back,
    };
    let (back, fault_offset) = resumes(builder, variant, fault, 8);
    let trap = enter(builder, fault, inner, old, back, was);
    let back = builder.function("trap_handler") + 0x30;
    link(builder, inner - 0xc0, trap, back);
    let back = builder.function("vpanic") + 0x20;
    link(builder, inner - 0x100, inner - 0xc0, back);
    let pc = builder.function("doadump") + 0x10;
    let fp = inner - 0x100;
    let sp = stack_pointer(builder, fp);
    let mut frames = frames(&[
        ("doadump", 0x10, None),
        ("vpanic", 0x20, None),
        ("trap_handler", 0x30, None),
        (fault, fault_offset, Some(inner)),
        ("faulting", 0x5c, None),
        ("syscall_handler", 0x40, None),
        (syscall, syscall_offset, Some(outer)),
    ]);
    if null {
        frames.insert(4, (String::new(), 0, None));
    }
    Expected {
        registers: save(builder, pcb, old, (pc, sp, fp)),
        frames,
        traps: vec![
            line(port, fault, was, frame_sp(port, inner, was)),
            line(port, syscall, user, frame_sp(port, outer, user)),
        ],
    }
}

/// An idle thread whose CPU was stopped by an interrupt.
fn stopped(builder: &mut KernelBuilder, pcb: u64, variant: Variant) -> Expected {
    let (port, old) = (builder.port, variant == Variant::Old);
    let [_, _, interrupt] = entries(port, variant);
    let top = builder.stack(2);
    let same = roles(port)[1] == roles(port)[2];
    let outer = outermost(builder, top);
    let back = builder.function("fork_trampoline") + 0xe;
    link(builder, top - 0x40, outer, back);
    let (trap, empty) = begin(builder, top - 0x40);
    let fp = top - 0x80;
    let back = builder.function("fork_exit") + 0x80;
    link(builder, fp, top - 0x40, back);
    let handler_name = match port.name {
        "arm" => "intr_irq_handler",
        _ => "cpustop_handler",
    };
    let pc = builder.function(handler_name) + 0x28;
    let tail = [("fork_exit", 0x80, None), ("fork_trampoline", 0xe, trap)];
    let at = fp - 0x1c0;
    let was = Interrupted {
        pc: builder.function("cpu_idle") + 0x1c,
        sp: if same { fp } else { fp - 0x20 },
        fp,
        user: false,
        number: match port.name {
            "riscv64" => 1 << 63 | 1,
            "powerpc64" | "powerpc64le" => 0x500,
            _ => 0,
        },
        back: 0,
    };
    let (back, offset) = resumes(builder, variant, interrupt, 0x11);
    let handler = enter(builder, interrupt, at, old, back, was);
    let sp = stack_pointer(builder, handler);
    let frames = [
        &[
            (handler_name, 0x28, None),
            (interrupt, offset, Some(at)),
            ("cpu_idle", 0x1c, None),
        ][..],
        &tail,
    ]
    .concat();
    Expected {
        registers: save(builder, pcb, old, (pc, sp, handler)),
        frames: self::frames(&frames),
        traps: [
            vec![line(port, interrupt, was, frame_sp(port, at, was))],
            empty,
        ]
        .concat(),
    }
}
