//! A machine that panicked: a thread that faulted in a system call, one on a CPU that was stopped
//! by an interrupt, one that sleeps, one on a CPU that ran on, and a zombie.
//!
//! Frames are laid as each processor's calling convention has them, trap frames as its entry code
//! leaves them (FreeBSD `exception.S`, `apic_vector.S`, `trap_subr.S`).

use std::collections::BTreeMap;

use super::forms::{pcb, roles, trap_frame};
use super::world::{Port, Wanted, World};

/// Which of a port's layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The newest.
    New,
    /// The one before.
    Old,
    /// The newest, with `stoppcbs` as an array.
    StoppcbsArray,
    /// The newest, with this entry for interrupts.
    Interrupt(&'static str),
    /// The newest; what faulted was a call of a null pointer.
    NullCall,
    /// The newest, with the entry code run from a copy (i386).
    Copied,
}

/// What a thread must be found to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) registers: BTreeMap<&'static str, u64>,
    /// Function, offset, trap frame.
    pub(crate) frames: Vec<(String, u64, Option<u64>)>,
    /// The lines between frames.
    pub(crate) traps: Vec<String>,
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) threads: Vec<Told>,
}

/// The names of a port's entry code: for a fault, a system call, an interrupt.
fn entries(port: Port, variant: Variant) -> [&'static str; 3] {
    let mut entries = match port.name {
        // 10.4 has no common part.
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
        // All exceptions but system calls return to one label; what was called tells which.
        _ => ["exception_exit", "swi_exit", "exception_exit"],
    };
    if let Variant::Interrupt(name) = variant {
        entries[2] = name;
    }
    entries
}

/// How far the copy of the entry code is from where it is linked.
const DISPLACEMENT: u64 = 0xffc0_0000;

/// What was interrupted.
#[derive(Clone, Copy)]
struct Interrupted {
    pc: u64,
    sp: u64,
    fp: u64,
    user: bool,
    number: u64,
    /// What the link register has, or the stack pointer points at.
    back: u64,
}

/// Lays the frame at `fp` of a function that was called by one with frame pointer `caller`, which
/// goes on at `back`.
fn link(world: &mut World, fp: u64, caller: u64, back: u64) {
    let word = world.port.word;
    match world.port.name {
        "riscv64" => {
            world.word(fp - 16, caller);
            world.word(fp - 8, back);
        }
        "powerpc64" | "powerpc64le" => {
            world.word(fp, caller);
            world.word(caller + 16, back);
        }
        _ => {
            world.word(fp, caller);
            world.word(fp + word, back);
        }
    }
}

/// Lays a trap frame at `at` and the frame of the function that the entry code calls, which returns
/// to `back`; gives that function's frame pointer.
fn enter(world: &mut World, entry: &str, at: u64, old: bool, back: u64, was: Interrupted) -> u64 {
    let form = trap_frame(world.port, old);
    for i in 0..form.len / 4 {
        world.put(at + 4 * i, 4, 0);
    }
    world.put(at + form.pc.0, form.pc.1, was.pc);
    world.put(at + form.fp.0, form.fp.1, was.fp);
    let is_i386 = world.port.name.starts_with("i386");
    // The processor pushes the stack pointer only where it changes it.
    if !is_i386 || was.user {
        world.put(at + form.sp.0, form.sp.1, was.sp);
    }
    if world.port.name == "arm" && was.user {
        // A program's stack pointer has another place; the kernel's is not written by swi_entry.
        world.put(at + 56, 4, was.sp);
        world.put(at + form.sp.0, 4, 0xdead_0000);
    }
    let mode = if was.user { form.mode.3 } else { form.mode.2 };
    world.put(at + form.mode.0, form.mode.1, mode);
    world.put(at + form.number.0, form.number.1, was.number);
    match world.port.name {
        "amd64" if !was.user => world.word(was.sp, was.back),
        "i386" | "i386pae" if !was.user => world.word(at + 64, was.back),
        "arm64" => world.word(at + 8, was.back),
        "riscv64" => world.word(at, was.back),
        "powerpc64" | "powerpc64le" => world.word(at + 256, was.back),
        "arm" => world.word(at + if was.user { 60 } else { 68 }, was.back),
        _ => {}
    }
    match world.port.name {
        "amd64" => {
            link(world, at - 16, was.fp, back);
            at - 16
        }
        "i386" | "i386pae" => {
            let fp = match entry {
                "Xcpustop" => at - 8,
                "Xapic_isr1" => {
                    world.put(at - 8, 4, 0x31);
                    world.put(at - 4, 4, at);
                    at - 16
                }
                _ => {
                    world.put(at - 4, 4, at);
                    at - 12
                }
            };
            link(world, fp, was.fp, back);
            fp
        }
        "arm64" => {
            let record = at + form.len;
            world.word(record, was.fp);
            world.word(record + 8, was.back);
            link(world, at - 0x40, record, back);
            at - 0x40
        }
        "riscv64" => {
            link(world, at, was.fp, back);
            at
        }
        // The link register and r11 are what the called function pushes first.
        "arm" => {
            link(world, at - 8, was.fp, back);
            at - 8
        }
        _ => {
            let frame = at - 48;
            world.word(frame, was.sp);
            link(world, frame - 0x40, frame, back);
            frame - 0x40
        }
    }
}

/// Writes a pcb, and gives the registers that a reader must find in it.
fn save(
    world: &mut World,
    at: u64,
    old: bool,
    (pc, sp, fp): (u64, u64, u64),
) -> BTreeMap<&'static str, u64> {
    let [pc_name, sp_name, fp_name] = roles(world.port);
    let mut registers = BTreeMap::new();
    for (i, (name, offset)) in pcb(world.port, old).into_iter().enumerate() {
        let value = match name {
            _ if i == 0 => pc,
            name if name == sp_name => sp,
            name if name == fp_name => fp,
            _ => 0x100 + offset,
        };
        world.word(at + offset, value);
        registers.insert(name, value);
    }
    registers.insert(pc_name, pc);
    if world.port.name == "riscv64" {
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
        let mut world = World::with_oncpu(port, &functions, oncpu);
        let pcbs = [0; 3].map(|_| world.allocate(port.pcb_size));
        let wanted = |tid, name, cpu, pcb| Wanted {
            tid,
            name,
            cpu,
            pcb,
        };
        let head = world.address("allproc");
        world.list(
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
        let head = world.variable("zombproc", port.word);
        world.list(
            head,
            &[(902, "true", &[wanted(100_777, "", None, pcbs[1])])],
        );
        let at = world.variable("dumptid", 4);
        world.put(at, 4, 100_670);
        let at = world.variable("mp_maxid", 4);
        world.put(at, 4, 3);
        let at = world.variable("stopped_cpus", 32);
        world.word(at, 1 << 1);
        if variant == Variant::Copied {
            let at = world.variable("setidt_disp", 4);
            world.put(at, 4, DISPLACEMENT);
        }
        let dumppcb = world.variable("dumppcb", port.pcb_size);
        let stoppcbs = if variant == Variant::StoppcbsArray {
            world.variable("stoppcbs", 3 * port.pcb_size)
        } else {
            let at = world.variable("stoppcbs", port.word);
            let array = world.allocate(2 * port.pcb_size);
            world.word(at, array);
            array
        };

        let sleeping = sleeping(&mut world, pcbs[0], old);
        let crashed = crashed(&mut world, dumppcb, variant);
        let stopped = stopped(&mut world, stoppcbs + port.pcb_size, variant);
        let mut zombie = Told::default();
        let start = world.function("fork_trampoline");
        let sp = world.stack(5) - 0x80;
        // A frame pointer of 0; that of powerpc64 is its stack pointer.
        let fp = if roles(port)[1] == roles(port)[2] {
            sp
        } else {
            0
        };
        zombie.registers = save(&mut world, pcbs[1], old, (start, sp, fp));
        zombie.frames = vec![("fork_trampoline".into(), 0, None)];
        let running = Told {
            registers: BTreeMap::new(),
            ..Told::default()
        };
        Self {
            world,
            threads: vec![crashed, stopped, sleeping, running, zombie],
        }
    }
}

/// Where the outermost function's caller has its frame.
fn outermost(world: &World, top: u64) -> u64 {
    if world.port.name.starts_with("powerpc") {
        top - 0x20
    } else {
        0
    }
}

/// Lays what `fork_trampoline` calls a kernel thread's first function with, below the empty trap frame
/// that it would leave the kernel by, where that function's frame is at `fp`. The trap that a reader
/// finds, and ddb's line for it: ddb reads i386's frame behind two arguments, though there are three.
fn begin(world: &mut World, fp: u64) -> (Option<u64>, Vec<String>) {
    match world.port.name {
        "amd64" => {
            let line = "--- trap 0, rip = 0, rsp = 0, rbp = 0 ---";
            (Some(fp + 16), vec![line.into()])
        }
        "i386" | "i386pae" => {
            world.put(fp + 16, 4, fp + 20);
            let at = fp + 12;
            let line = format!("--- trap 0, eip = 0, esp = {:#x}, ebp = 0 ---", at + 64);
            (Some(at), vec![line])
        }
        _ => (None, Vec::new()),
    }
}

fn told(names: &[(&str, u64, Option<u64>)]) -> Vec<(String, u64, Option<u64>)> {
    names
        .iter()
        .map(|(name, offset, trap)| ((*name).to_string(), *offset, *trap))
        .collect()
}

/// A kernel thread that sleeps.
fn sleeping(world: &mut World, pcb: u64, old: bool) -> Told {
    let top = world.stack(0);
    let at = |world: &World, name: &str, by: u64| world.function(name) + by;
    let outer = outermost(world, top);
    let back = at(world, "fork_trampoline", 0xe);
    link(world, top - 0x40, outer, back);
    let (trap, traps) = begin(world, top - 0x40);
    let back = at(world, "fork_exit", 0x80);
    link(world, top - 0x80, top - 0x40, back);
    let back = at(world, "sleepq_wait", 0x44);
    link(world, top - 0xc0, top - 0x80, back);
    let back = at(world, "mi_switch", 0xbb);
    link(world, top - 0x100, top - 0xc0, back);
    let pc = at(world, "sched_switch", 0x55);
    let fp = top - 0x100;
    let sp = stack_pointer(world, fp);
    Told {
        registers: save(world, pcb, old, (pc, sp, fp)),
        frames: told(&[
            ("sched_switch", 0x55, None),
            ("mi_switch", 0xbb, None),
            ("sleepq_wait", 0x44, None),
            ("fork_exit", 0x80, None),
            ("fork_trampoline", 0xe, trap),
        ]),
        traps,
    }
}

fn stack_pointer(world: &World, fp: u64) -> u64 {
    if outermost(world, 0x100) == 0 {
        fp - 0x40
    } else {
        fp
    }
}

/// Where entry code goes on after its call, as an address and as a reader tells it. The label of
/// powerpc64 stands behind the slot that reloads the TOC.
fn resumes(world: &World, variant: Variant, entry: &str, by: u64) -> (u64, u64) {
    if variant == Variant::Copied {
        return (
            (world.function(entry) + by + DISPLACEMENT) & 0xffff_ffff,
            by,
        );
    }
    if world.port.name.starts_with("powerpc") {
        (world.function(entry) - 4, 0)
    } else if world.port.name == "arm" {
        (world.function(entry), 0)
    } else {
        (world.function(entry) + by, by)
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
        // That of an idle thread is an interrupt.
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

/// The stack pointer that a trap frame tells: i386 has it only of user mode, else it is where it
/// would be.
fn told_sp(port: Port, at: u64, was: Interrupted) -> u64 {
    if port.name.starts_with("i386") && !was.user {
        at + 64
    } else {
        was.sp
    }
}

/// A thread of a user process that faulted in a system call, and dumped.
fn crashed(world: &mut World, pcb: u64, variant: Variant) -> Told {
    let (port, old) = (world.port, variant == Variant::Old);
    let [fault, syscall, _] = entries(port, variant);
    let top = world.stack(1);
    let same = roles(port)[1] == roles(port)[2];

    // From user mode.
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
    let (back, syscall_offset) = resumes(world, variant, syscall, 9);
    let handler = enter(world, syscall, outer, old, back, user);
    // Into the function that faults.
    let fp = outer - 0xc0;
    let back = world.function("syscall_handler") + 0x40;
    link(world, fp, handler, back);
    let inner = fp - 0x1c0;
    let null = variant == Variant::NullCall;
    let back = world.function("faulting") + 0x5c;
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
    let (back, fault_offset) = resumes(world, variant, fault, 8);
    let trap = enter(world, fault, inner, old, back, was);
    let back = world.function("trap_handler") + 0x30;
    link(world, inner - 0xc0, trap, back);
    let back = world.function("vpanic") + 0x20;
    link(world, inner - 0x100, inner - 0xc0, back);
    let pc = world.function("doadump") + 0x10;
    let fp = inner - 0x100;
    let sp = stack_pointer(world, fp);
    let mut frames = told(&[
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
    Told {
        registers: save(world, pcb, old, (pc, sp, fp)),
        frames,
        traps: vec![
            line(port, fault, was, told_sp(port, inner, was)),
            line(port, syscall, user, told_sp(port, outer, user)),
        ],
    }
}

/// An idle thread whose CPU was stopped by an interrupt.
fn stopped(world: &mut World, pcb: u64, variant: Variant) -> Told {
    let (port, old) = (world.port, variant == Variant::Old);
    let [_, _, interrupt] = entries(port, variant);
    let top = world.stack(2);
    let same = roles(port)[1] == roles(port)[2];
    let outer = outermost(world, top);
    let back = world.function("fork_trampoline") + 0xe;
    link(world, top - 0x40, outer, back);
    let (trap, empty) = begin(world, top - 0x40);
    let fp = top - 0x80;
    let back = world.function("fork_exit") + 0x80;
    link(world, fp, top - 0x40, back);
    let handler_name = match port.name {
        "arm" => "intr_irq_handler",
        _ => "cpustop_handler",
    };
    let pc = world.function(handler_name) + 0x28;
    let tail = [("fork_exit", 0x80, None), ("fork_trampoline", 0xe, trap)];
    let at = fp - 0x1c0;
    let was = Interrupted {
        pc: world.function("cpu_idle") + 0x1c,
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
    let (back, offset) = resumes(world, variant, interrupt, 0x11);
    let handler = enter(world, interrupt, at, old, back, was);
    let sp = stack_pointer(world, handler);
    let frames = [
        &[
            (handler_name, 0x28, None),
            (interrupt, offset, Some(at)),
            ("cpu_idle", 0x1c, None),
        ][..],
        &tail,
    ]
    .concat();
    Told {
        registers: save(world, pcb, old, (pc, sp, handler)),
        frames: told(&frames),
        traps: [
            vec![line(port, interrupt, was, told_sp(port, at, was))],
            empty,
        ]
        .concat(),
    }
}
