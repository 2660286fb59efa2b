//! Registers of a thread as ELF cores of FreeBSD and of Linux have them.
//!
//! FreeBSD `sys/sys/procfs.h` and `sys/*/include/reg.h`; Linux `include/linux/elfcore.h` and
//! `arch/*/include/uapi/asm/ptrace.h`. Names are GDB's.

/// A run of bytes in a structure: a register's name and its bytes. A name of nobody's is zeros.
pub type Slot = (&'static str, usize);

/// One architecture's `NT_PRSTATUS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prstatus {
    /// `struct reg` of FreeBSD.
    pub freebsd: &'static [Slot],
    /// `elf_gregset_t` of Linux.
    pub linux: &'static [Slot],
    /// What every kernel context has in these registers: the code and stack segments.
    pub always: &'static [(&'static str, u64)],
}

macro_rules! slots {
    ($($size:literal: $($name:literal)*);*) => { &[$($(($name, $size)),*),*] };
}

/// amd64
pub static AMD64: Prstatus = Prstatus {
    freebsd: slots!(
        8: "r15" "r14" "r13" "r12" "r11" "r10" "r9" "r8" "rdi" "rsi" "rbp" "rbx" "rdx" "rcx" "rax";
        4: "trapno"; 2: "fs" "gs"; 4: "err"; 2: "es" "ds";
        8: "rip" "cs" "eflags" "rsp" "ss"),
    linux: slots!(
        8: "r15" "r14" "r13" "r12" "rbp" "rbx" "r11" "r10" "r9" "r8" "rax" "rcx" "rdx" "rsi" "rdi"
           "orig_rax" "rip" "cs" "eflags" "rsp" "ss" "fs_base" "gs_base" "ds" "es" "fs" "gs"),
    always: &[("cs", 0x20), ("ss", 0x28)],
};

/// i386
pub static I386: Prstatus = Prstatus {
    freebsd: slots!(
        4: "fs" "es" "ds" "edi" "esi" "ebp" "isp" "ebx" "edx" "ecx" "eax" "trapno" "err" "eip" "cs"
           "eflags" "esp" "ss" "gs"),
    linux: slots!(
        4: "ebx" "ecx" "edx" "esi" "edi" "ebp" "eax" "ds" "es" "fs" "gs" "orig_eax" "eip" "cs"
           "eflags" "esp" "ss"),
    always: &[("cs", 0x20), ("ss", 0x28)],
};

/// arm64
pub static ARM64: Prstatus = Prstatus {
    freebsd: slots!(
        8: "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15"
           "x16" "x17" "x18" "x19" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x29"
           "x30" "sp" "pc" "cpsr"),
    linux: slots!(
        8: "x0" "x1" "x2" "x3" "x4" "x5" "x6" "x7" "x8" "x9" "x10" "x11" "x12" "x13" "x14" "x15"
           "x16" "x17" "x18" "x19" "x20" "x21" "x22" "x23" "x24" "x25" "x26" "x27" "x28" "x29"
           "x30" "sp" "pc" "cpsr"),
    always: &[],
};

/// riscv64
pub static RISCV64: Prstatus = Prstatus {
    freebsd: slots!(
        8: "ra" "sp" "gp" "tp" "t0" "t1" "t2" "t3" "t4" "t5" "t6" "fp" "s1" "s2" "s3" "s4" "s5" "s6"
           "s7" "s8" "s9" "s10" "s11" "a0" "a1" "a2" "a3" "a4" "a5" "a6" "a7" "pc" "sstatus"),
    linux: slots!(
        8: "pc" "ra" "sp" "gp" "tp" "t0" "t1" "t2" "fp" "s1" "a0" "a1" "a2" "a3" "a4" "a5" "a6" "a7"
           "s2" "s3" "s4" "s5" "s6" "s7" "s8" "s9" "s10" "s11" "t3" "t4" "t5" "t6"),
    always: &[],
};

/// 32-bit arm
pub static ARM: Prstatus = Prstatus {
    freebsd: slots!(
        4: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "sp" "lr" "pc"
           "cpsr"),
    linux: slots!(
        4: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "sp" "lr" "pc"
           "cpsr" "orig_r0"),
    always: &[],
};

/// powerpc64
pub static POWERPC64: Prstatus = Prstatus {
    freebsd: slots!(
        8: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15"
           "r16" "r17" "r18" "r19" "r20" "r21" "r22" "r23" "r24" "r25" "r26" "r27" "r28" "r29"
           "r30" "r31" "lr" "cr" "xer" "ctr" "pc"),
    linux: slots!(
        8: "r0" "r1" "r2" "r3" "r4" "r5" "r6" "r7" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15"
           "r16" "r17" "r18" "r19" "r20" "r21" "r22" "r23" "r24" "r25" "r26" "r27" "r28" "r29"
           "r30" "r31" "pc" "msr" "orig_r3" "ctr" "lr" "xer" "cr" "mq" "trap" "dar" "dsisr" "result"
           "pad0" "pad1" "pad2" "pad3"),
    always: &[],
};
