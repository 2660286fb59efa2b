//! The registers of a processor by the names and in the order that GDB gives them.
//!
//! GDB `gdb/features/*.xml`: the core feature of each processor's target description.

/// One register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// GDB's name of it.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
}

/// The registers of one processor.
#[derive(Debug, PartialEq, Eq)]
pub struct RegisterSet {
    /// `e_machine` of its kernels.
    pub machine: u16,
    /// Whether its registers have 64 bits: one `e_machine` of mips has both.
    pub class64: bool,
    /// All of them, in GDB's order.
    pub registers: &'static [Register],
    /// The program counter.
    pub pc: &'static str,
    /// The stack pointer.
    pub sp: &'static str,
    /// The frame pointer, by the convention that FreeBSD's kernels are compiled with. Where it is
    /// the stack pointer, frames are chained through that.
    pub fp: &'static str,
}

macro_rules! registers {
    ($size:literal: $($name:literal)*) => { &[$(Register { name: $name, size: $size }),*] };
    ($($size:literal: $($name:literal)*);*) => { &[$($(Register { name: $name, size: $size }),*),*] };
}

/// amd64. `org.gnu.gdb.i386.core` and `.segments`.
pub static AMD64: RegisterSet = RegisterSet {
    machine: 62,
    class64: true,
    registers: registers!(
        8: "rax" "rbx" "rcx" "rdx" "rsi" "rdi" "rbp" "rsp"
           "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15" "rip";
        4: "eflags" "cs" "ss" "ds" "es" "fs" "gs";
        8: "fs_base" "gs_base"),
    pc: "rip",
    sp: "rsp",
    fp: "rbp",
};

/// i386. `org.gnu.gdb.i386.core`.
pub static I386: RegisterSet = RegisterSet {
    machine: 3,
    class64: false,
    registers: registers!(
        4: "eax" "ecx" "edx" "ebx" "esp" "ebp" "esi" "edi" "eip"
           "eflags" "cs" "ss" "ds" "es" "fs" "gs"),
    pc: "eip",
    sp: "esp",
    fp: "ebp",
};

/// arm64. `org.gnu.gdb.aarch64.core`.
pub static ARM64: RegisterSet = RegisterSet {
    machine: 183,
    class64: true,
    registers: registers!(
        8: "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15"
           "x16" "x17" "x18" "x19" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x29"
           "x30" "sp" "pc";
        4: "cpsr"),
    pc: "pc",
    sp: "sp",
    fp: "x29",
};

/// riscv64. `org.gnu.gdb.riscv.cpu`.
pub static RISCV64: RegisterSet = RegisterSet {
    machine: 243,
    class64: true,
    registers: registers!(
        8: "zero" "ra" "sp" "gp" "tp" "t0" "t1" "t2" "fp" "s1" "a0" "a1" "a2" "a3" "a4" "a5" "a6"
           "a7" "s2" "s3" "s4" "s5" "s6" "s7" "s8" "s9" "s10" "s11" "t3" "t4" "t5" "t6" "pc"),
    pc: "pc",
    sp: "sp",
    fp: "fp",
};

/// 32-bit arm. `org.gnu.gdb.arm.core`.
pub static ARM: RegisterSet = RegisterSet {
    machine: 40,
    class64: false,
    registers: registers!(
        4: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "sp" "lr" "pc"
           "cpsr"),
    pc: "pc",
    sp: "sp",
    fp: "r11",
};

/// powerpc64, either byte order. `org.gnu.gdb.power.core`.
pub static POWERPC64: RegisterSet = RegisterSet {
    machine: 21,
    class64: true,
    registers: registers!(
        8: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15"
           "r16" "r17" "r18" "r19" "r20" "r21" "r22" "r23" "r24" "r25" "r26" "r27" "r28" "r29"
           "r30" "r31" "pc" "msr";
        4: "cr";
        8: "lr" "ctr";
        4: "xer"),
    pc: "pc",
    sp: "r1",
    fp: "r1",
};

/// mips with registers of 32 bits (o32), in GDB's order and by the names that it shows.
pub static MIPS32: RegisterSet = RegisterSet {
    machine: 8,
    class64: false,
    registers: registers!(
        4: "zero" "at" "v0" "v1" "a0" "a1" "a2" "a3" "t0" "t1" "t2" "t3" "t4" "t5" "t6" "t7"
           "s0" "s1" "s2" "s3" "s4" "s5" "s6" "s7" "t8" "t9" "k0" "k1" "gp" "sp" "s8" "ra"
           "sr" "lo" "hi" "bad" "cause" "pc"),
    pc: "pc",
    sp: "sp",
    fp: "sp",
};

/// mips with registers of 64 bits (n64, n32), which names registers 8 to 15 otherwise.
pub static MIPS64: RegisterSet = RegisterSet {
    machine: 8,
    class64: true,
    registers: registers!(
        8: "zero" "at" "v0" "v1" "a0" "a1" "a2" "a3" "a4" "a5" "a6" "a7" "t0" "t1" "t2" "t3"
           "s0" "s1" "s2" "s3" "s4" "s5" "s6" "s7" "t8" "t9" "k0" "k1" "gp" "sp" "s8" "ra"
           "sr" "lo" "hi" "bad" "cause" "pc"),
    pc: "pc",
    sp: "sp",
    fp: "sp",
};

/// Every processor whose registers a thread can have.
pub static ALL: [&RegisterSet; 8] = [
    &AMD64, &I386, &ARM64, &RISCV64, &ARM, &POWERPC64, &MIPS32, &MIPS64,
];
