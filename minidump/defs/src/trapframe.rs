//! Registers of an interrupted context: `struct trapframe`, and the entry code that makes one.
//!
//! FreeBSD `sys/*/include/frame.h`; the entries are in `exception.S`, `apic_vector.S` and
//! `trap_subr.S`, and what ddb makes of them in `db_trace.c`. Register names are those of
//! [`registers`](crate::registers).

/// Where a trap frame lies, seen from the frame of the function that the entry code called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This many bytes above the called function's frame pointer.
    Above(u64),
    /// Behind the arguments that the entry pushed: none, the frame's address, an interrupt's number
    /// and the frame's address, or what a thread begins with and the frame's address (i386).
    Arguments,
    /// It ends where the entry's own frame record begins (arm64).
    BelowRecord,
    /// This many bytes above the entry's stack frame, whose back chain is the interrupted stack
    /// pointer (powerpc64, either ABI).
    BehindFrame(u64),
    /// This many bytes above the entry's stack pointer (mips).
    AboveStack(u64),
}

/// How a trap frame tells user mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Offset of a word.
    pub at: u64,
    /// Its bits.
    pub mask: u64,
    /// Whether user mode has one of them set, or none.
    pub user_has_one: bool,
}

/// A `struct trapframe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrapFields {
    /// `e_machine` of the kernels that have it.
    pub machine: u16,
    /// No `__FreeBSD_version` before this one has it.
    pub since: u32,
    /// Bytes of a register.
    pub word: usize,
    /// Bytes of it.
    pub size: u64,
    /// Where it is.
    pub place: Place,
    /// Name, offset and bytes of each register.
    pub registers: &'static [(&'static str, u64, usize)],
    /// The register that [`Place`] is checked with: the return address that was in the link
    /// register when the trap came, if there is one.
    pub link: Option<u64>,
    /// Whose mode it was.
    pub mode: Mode,
    /// The trap's number or cause, and its bytes, if the frame has it. amd64 and i386 set it only for
    /// traps.
    pub number: Option<(u64, usize)>,
    /// The address that a fault was about, if the frame has it.
    pub address: Option<u64>,
}

/// amd64.
pub static AMD64: TrapFields = TrapFields {
    machine: 62,
    since: 0,
    word: 8,
    size: 192,
    place: Place::Above(16),
    registers: &[
        ("rdi", 0, 8),
        ("rsi", 8, 8),
        ("rdx", 16, 8),
        ("rcx", 24, 8),
        ("r8", 32, 8),
        ("r9", 40, 8),
        ("rax", 48, 8),
        ("rbx", 56, 8),
        ("rbp", 64, 8),
        ("r10", 72, 8),
        ("r11", 80, 8),
        ("r12", 88, 8),
        ("r13", 96, 8),
        ("r14", 104, 8),
        ("r15", 112, 8),
        ("rip", 152, 8),
        ("cs", 160, 2),
        ("eflags", 168, 4),
        ("rsp", 176, 8),
        ("ss", 184, 2),
    ],
    link: None,
    mode: Mode {
        at: 160,
        mask: 3,
        user_has_one: true,
    },
    number: Some((120, 4)),
    address: Some(128),
};

/// i386. Stack pointer and segment are there only if user mode was interrupted.
pub static I386: TrapFields = TrapFields {
    machine: 3,
    since: 0,
    word: 4,
    size: 60,
    place: Place::Arguments,
    registers: &[
        ("fs", 0, 2),
        ("es", 4, 2),
        ("ds", 8, 2),
        ("edi", 12, 4),
        ("esi", 16, 4),
        ("ebp", 20, 4),
        ("ebx", 28, 4),
        ("edx", 32, 4),
        ("ecx", 36, 4),
        ("eax", 40, 4),
        ("eip", 52, 4),
        ("cs", 56, 2),
        ("eflags", 60, 4),
    ],
    link: None,
    mode: Mode {
        at: 56,
        mask: 3,
        user_has_one: true,
    },
    number: Some((44, 4)),
    address: None,
};

/// Offset of `esp` in an i386 frame.
pub const I386_ESP: u64 = 64;
/// Offset of `eflags` in an i386 frame.
pub const I386_EFLAGS: u64 = 60;
/// `PSL_VM` of `eflags`: a virtual 8086, whose segments are no selectors.
pub const PSL_VM: u64 = 1 << 17;

macro_rules! arm64 {
    ($x:literal) => {
        &[
            ("sp", 0, 8),
            ("x30", 8, 8),
            ("pc", 16, 8),
            ("cpsr", 24, 4),
            ("x0", $x, 8),
            ("x1", $x + 8, 8),
            ("x2", $x + 16, 8),
            ("x3", $x + 24, 8),
            ("x4", $x + 32, 8),
            ("x5", $x + 40, 8),
            ("x6", $x + 48, 8),
            ("x7", $x + 56, 8),
            ("x8", $x + 64, 8),
            ("x9", $x + 72, 8),
            ("x10", $x + 80, 8),
            ("x11", $x + 88, 8),
            ("x12", $x + 96, 8),
            ("x13", $x + 104, 8),
            ("x14", $x + 112, 8),
            ("x15", $x + 120, 8),
            ("x16", $x + 128, 8),
            ("x17", $x + 136, 8),
            ("x18", $x + 144, 8),
            ("x19", $x + 152, 8),
            ("x20", $x + 160, 8),
            ("x21", $x + 168, 8),
            ("x22", $x + 176, 8),
            ("x23", $x + 184, 8),
            ("x24", $x + 192, 8),
            ("x25", $x + 200, 8),
            ("x26", $x + 208, 8),
            ("x27", $x + 216, 8),
            ("x28", $x + 224, 8),
            ("x29", $x + 232, 8),
        ]
    };
}

/// arm64 with `tf_far`.
pub static ARM64: TrapFields = TrapFields {
    machine: 183,
    since: 1_201_001,
    word: 8,
    size: 288,
    place: Place::BelowRecord,
    registers: arm64!(48),
    link: Some(8),
    mode: Mode {
        at: 24,
        mask: 0xf,
        user_has_one: false,
    },
    number: Some((32, 8)),
    address: Some(40),
};

/// arm64 before `tf_far`: 12.1. Which version added that is not known; the link register tells.
pub static ARM64_OLD: TrapFields = TrapFields {
    since: 0,
    size: 272,
    registers: arm64!(32),
    number: Some((28, 4)),
    address: None,
    ..ARM64
};

/// riscv64.
pub static RISCV: TrapFields = TrapFields {
    machine: 243,
    since: 0,
    word: 8,
    size: 280,
    place: Place::Above(0),
    registers: &[
        ("ra", 0, 8),
        ("sp", 8, 8),
        ("gp", 16, 8),
        ("tp", 24, 8),
        ("t0", 32, 8),
        ("t1", 40, 8),
        ("t2", 48, 8),
        ("t3", 56, 8),
        ("t4", 64, 8),
        ("t5", 72, 8),
        ("t6", 80, 8),
        ("fp", 88, 8),
        ("s1", 96, 8),
        ("s2", 104, 8),
        ("s3", 112, 8),
        ("s4", 120, 8),
        ("s5", 128, 8),
        ("s6", 136, 8),
        ("s7", 144, 8),
        ("s8", 152, 8),
        ("s9", 160, 8),
        ("s10", 168, 8),
        ("s11", 176, 8),
        ("a0", 184, 8),
        ("a1", 192, 8),
        ("a2", 200, 8),
        ("a3", 208, 8),
        ("a4", 216, 8),
        ("a5", 224, 8),
        ("a6", 232, 8),
        ("a7", 240, 8),
        ("pc", 248, 8),
    ],
    link: None,
    // sstatus.SPP: the mode before the trap was not user mode.
    mode: Mode {
        at: 256,
        mask: 0x100,
        user_has_one: false,
    },
    number: Some((272, 8)),
    address: Some(264),
};

/// The bit of riscv's `scause` that says interrupt.
pub const SCAUSE_INTR: u64 = 1 << 63;
/// `scause` of a system call.
pub const SCAUSE_ECALL_USER: u64 = 8;

/// powerpc64, either byte order and ABI; FreeBSD 12.1 and 14 `sys/powerpc/aim/trap_subr64.S`.
pub static POWERPC64: TrapFields = TrapFields {
    machine: 21,
    since: 0,
    word: 8,
    size: 336,
    place: Place::BehindFrame(48),
    registers: &[
        ("r0", 0, 8),
        ("r1", 8, 8),
        ("r2", 16, 8),
        ("r3", 24, 8),
        ("r4", 32, 8),
        ("r5", 40, 8),
        ("r6", 48, 8),
        ("r7", 56, 8),
        ("r8", 64, 8),
        ("r9", 72, 8),
        ("r10", 80, 8),
        ("r11", 88, 8),
        ("r12", 96, 8),
        ("r13", 104, 8),
        ("r14", 112, 8),
        ("r15", 120, 8),
        ("r16", 128, 8),
        ("r17", 136, 8),
        ("r18", 144, 8),
        ("r19", 152, 8),
        ("r20", 160, 8),
        ("r21", 168, 8),
        ("r22", 176, 8),
        ("r23", 184, 8),
        ("r24", 192, 8),
        ("r25", 200, 8),
        ("r26", 208, 8),
        ("r27", 216, 8),
        ("r28", 224, 8),
        ("r29", 232, 8),
        ("r30", 240, 8),
        ("r31", 248, 8),
        ("lr", 256, 8),
        ("cr", 264, 8),
        ("xer", 272, 8),
        ("ctr", 280, 8),
        ("pc", 288, 8),
        ("msr", 296, 8),
    ],
    link: None,
    // PSL_PR of srr1.
    mode: Mode {
        at: 296,
        mask: 0x4000,
        user_has_one: true,
    },
    number: Some((304, 8)),
    address: Some(312),
};

/// Of `exc`: what an external interrupt, the decrementer and the hypervisor's interrupt set.
pub const POWERPC64_INTERRUPTS: [u64; 3] = [0x500, 0x900, 0xea0];
/// `EXC_SC` of `exc`: a system call.
pub const POWERPC64_EXC_SC: u64 = 0xc00;
/// Of `exc`: what sets `dar` (`EXC_DSI`, `EXC_DSE`, `EXC_ALI`).
pub const POWERPC64_ADDRESSED: [u64; 3] = [0x300, 0x380, 0x600];

/// arm. The kernel's stack pointer and link register; a program's are at [`ARM_USR_SP`] and
/// [`ARM_USR_LR`]. FreeBSD 12.1 and 14 `sys/arm/arm/exception.S`.
pub static ARM: TrapFields = TrapFields {
    machine: 40,
    since: 0,
    word: 4,
    size: 80,
    // The called function pushes its link register and r11 first.
    place: Place::Above(8),
    registers: &[
        ("cpsr", 0, 4),
        ("r0", 4, 4),
        ("r1", 8, 4),
        ("r2", 12, 4),
        ("r3", 16, 4),
        ("r4", 20, 4),
        ("r5", 24, 4),
        ("r6", 28, 4),
        ("r7", 32, 4),
        ("r8", 36, 4),
        ("r9", 40, 4),
        ("r10", 44, 4),
        ("r11", 48, 4),
        ("r12", 52, 4),
        ("sp", 64, 4),
        ("lr", 68, 4),
        ("pc", 72, 4),
    ],
    link: None,
    // Of PSR_MODE: zero in user mode alone.
    mode: Mode {
        at: 0,
        mask: 0xf,
        user_has_one: false,
    },
    number: None,
    address: None,
};

/// Offset of a program's stack pointer in an arm frame.
pub const ARM_USR_SP: u64 = 56;
/// Offset of a program's link register in an arm frame.
pub const ARM_USR_LR: u64 = 60;
/// The bit that every 32-bit mode has in an arm frame's `tf_spsr`. A thread that was never in user
/// mode has a frame of zeros.
pub const ARM_PSR_32_MODE: u64 = 0x10;
/// What arm's entry code calls for interrupts. It returns to one label for all exceptions.
pub const ARM_INTERRUPT_HANDLERS: [&str; 2] = ["intr_irq_handler", "arm_irq_handler"];

macro_rules! mips {
    ($word:literal; $($name:literal = $index:literal),*) => {
        &[$(($name, $index * $word, $word as usize)),*]
    };
}

/// mips with registers of 32 bits. FreeBSD 12.1 `sys/mips/include/regnum.h`; `exception.S`, which
/// leaves out k0 and k1; the frame lies behind the call frame of six words (`abi.h`).
pub static MIPS32: TrapFields = TrapFields {
    machine: 8,
    since: 0,
    word: 4,
    size: 160,
    place: Place::AboveStack(24),
    registers: mips!(4;
        "at" = 1, "v0" = 2, "v1" = 3, "a0" = 4, "a1" = 5, "a2" = 6, "a3" = 7,
        "t0" = 8, "t1" = 9, "t2" = 10, "t3" = 11, "t4" = 12, "t5" = 13, "t6" = 14, "t7" = 15,
        "s0" = 16, "s1" = 17, "s2" = 18, "s3" = 19, "s4" = 20, "s5" = 21, "s6" = 22, "s7" = 23,
        "t8" = 24, "t9" = 25, "gp" = 28, "sp" = 29, "s8" = 30, "ra" = 31,
        "sr" = 32, "lo" = 33, "hi" = 34, "bad" = 35, "cause" = 36, "pc" = 37),
    link: None,
    // MIPS_SR_KSU_USER of the status register.
    mode: Mode {
        at: 32 * 4,
        mask: 0x10,
        user_has_one: true,
    },
    number: Some((36 * 4, 4)),
    address: Some(35 * 4),
};

/// mips with registers of 64 bits; the call frame has four words.
pub static MIPS64: TrapFields = TrapFields {
    word: 8,
    size: 320,
    place: Place::AboveStack(32),
    registers: mips!(8;
        "at" = 1, "v0" = 2, "v1" = 3, "a0" = 4, "a1" = 5, "a2" = 6, "a3" = 7,
        "a4" = 8, "a5" = 9, "a6" = 10, "a7" = 11, "t0" = 12, "t1" = 13, "t2" = 14, "t3" = 15,
        "s0" = 16, "s1" = 17, "s2" = 18, "s3" = 19, "s4" = 20, "s5" = 21, "s6" = 22, "s7" = 23,
        "t8" = 24, "t9" = 25, "gp" = 28, "sp" = 29, "s8" = 30, "ra" = 31,
        "sr" = 32, "lo" = 33, "hi" = 34, "bad" = 35, "cause" = 36, "pc" = 37),
    mode: Mode {
        at: 32 * 8,
        mask: 0x10,
        user_has_one: true,
    },
    number: Some((36 * 8, 8)),
    address: Some(35 * 8),
    ..MIPS32
};

/// The exception code of mips's cause register is `(cause >> 2) & 31`: this is a system call.
pub const MIPS_EXC_SYS: u64 = 8;
/// Exception codes of mips that `bad` is about: TLB modified, load, store; address, load and store.
pub const MIPS_ADDRESSED: [u64; 5] = [1, 2, 3, 4, 5];

/// All of them; of one machine the newest first.
pub static ALL: [&TrapFields; 9] = [
    &AMD64, &I386, &ARM64, &ARM64_OLD, &RISCV, &POWERPC64, &ARM, &MIPS64, &MIPS32,
];

/// What brought a context into the kernel, or into a trap in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A fault or an exception.
    Trap,
    /// An interrupt.
    Interrupt,
    /// A system call.
    Syscall,
}

/// Entry code, known by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `e_machine` of the kernels that have it.
    pub machine: u16,
    /// Its name, or how its name begins.
    pub name: &'static str,
    /// Whether `name` is only the beginning.
    pub prefix: bool,
    /// What it is entered for.
    pub cause: Cause,
}

const fn entry(machine: u16, name: &'static str, cause: Cause) -> Entry {
    Entry {
        machine,
        name,
        prefix: false,
        cause,
    }
}

const fn entries(machine: u16, name: &'static str, cause: Cause) -> Entry {
    Entry {
        prefix: true,
        ..entry(machine, name, cause)
    }
}

/// Every entry. The first that matches counts.
pub const ENTRIES: [Entry; 37] = [
    entry(62, "calltrap", Cause::Trap),
    // The frame that a thread's first code leaves its kernel by; a kernel thread's is empty.
    entry(62, "fork_trampoline", Cause::Trap),
    entry(62, "nmi_calltrap", Cause::Trap),
    entry(62, "mchk_calltrap", Cause::Trap),
    entries(62, "alltraps", Cause::Trap),
    entry(62, "fast_syscall_common", Cause::Syscall),
    // Where 10.4 goes on, which has no common part.
    entry(62, "Xfast_syscall", Cause::Syscall),
    entry(62, "Xfast_syscall_pti", Cause::Syscall),
    entry(62, "Xint0x80_syscall", Cause::Syscall),
    entry(62, "Xint0x80_syscall_pti", Cause::Syscall),
    entry(62, "int0x80_syscall_common", Cause::Syscall),
    entry(62, "Xdblfault", Cause::Trap),
    entry(62, "Xpage", Cause::Trap),
    entries(62, "X", Cause::Interrupt),
    entry(3, "calltrap", Cause::Trap),
    entry(3, "fork_trampoline", Cause::Trap),
    entry(3, "Xlcall_syscall", Cause::Syscall),
    entry(3, "Xint0x80_syscall", Cause::Syscall),
    entries(3, "X", Cause::Interrupt),
    entry(183, "handle_el0_sync", Cause::Trap),
    entry(183, "handle_el1h_sync", Cause::Trap),
    entry(183, "handle_el0_irq", Cause::Interrupt),
    entry(183, "handle_el1h_irq", Cause::Interrupt),
    entries(183, "handle_el", Cause::Trap),
    entry(183, "handle_serror", Cause::Trap),
    entry(183, "handle_empty_exception", Cause::Trap),
    entries(243, "cpu_exception_handler", Cause::Trap),
    entry(21, "trapexit", Cause::Trap),
    entry(21, "asttrapexit", Cause::Trap),
    entry(21, "dbtrap", Cause::Trap),
    entry(40, "swi_exit", Cause::Syscall),
    entry(40, "exception_exit", Cause::Trap),
    entry(8, "MipsKernGenException", Cause::Trap),
    entry(8, "MipsUserGenException", Cause::Trap),
    entry(8, "MipsKernIntr", Cause::Interrupt),
    entry(8, "MipsUserIntr", Cause::Interrupt),
    // Where the kernel's stack has run over.
    entry(8, "MipsTLBInvalidException", Cause::Trap),
];

/// A label at which entry code goes on, in a function of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// `e_machine` of the kernels that have it.
    pub machine: u16,
    /// Its name.
    pub name: &'static str,
    /// How far in front of it a call may return to: powerpc64 has a slot there that reloads the TOC.
    pub slot: u64,
}

const fn label(machine: u16, name: &'static str, slot: u64) -> Label {
    Label {
        machine,
        name,
        slot,
    }
}

/// Labels that calls return to, though they are no part of the function that calls.
pub const LABELS: [Label; 4] = [
    label(21, "trapexit", 4),
    label(21, "asttrapexit", 4),
    label(40, "swi_exit", 0),
    label(40, "exception_exit", 0),
];

/// Where the kernel's part of a stack ends, on every processor: a thread's first code, and amd64's
/// way into a system call.
pub const STACK_ENDS: [&str; 4] = [
    "fork_trampoline",
    "fast_syscall_common",
    "Xfast_syscall",
    "Xfast_syscall_pti",
];

/// Where the kernel's part of a stack begins on mips: the code that starts a CPU.
pub const MIPS_STARTS: [&str; 3] = ["_start", "_locore", "mpentry"];
