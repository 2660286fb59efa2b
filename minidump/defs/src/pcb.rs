//! Saved registers of a thread that does not run: `struct pcb`.
//!
//! FreeBSD `sys/*/include/pcb.h`; the layouts are promised to debuggers. Register names are those
//! of [`registers`](crate::registers).

/// Where the registers of a `struct pcb` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcbFields {
    /// `e_machine` of the kernels that have it.
    pub machine: u16,
    /// The first `__FreeBSD_version` that has it.
    pub since: u32,
    /// The first `__FreeBSD_version` that is known not to have it any more.
    pub until: u32,
    /// `pcb_size` if it is known to be the same wherever this layout is, else 0.
    pub size: u64,
    /// Bytes of a register.
    pub word: usize,
    /// Name and offset of each.
    pub registers: &'static [(&'static str, usize)],
    /// The register that says where the thread goes on: the link register where a pcb has no
    /// program counter that means anything.
    pub pc: &'static str,
    /// What a trap's pcb has beside, if it has more.
    pub trapped: Option<&'static Trapped>,
}

/// What `makectx` fills in of a `struct pcb`, as the debugger's `kdb_pcb`, and a switch does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trapped {
    /// Offset of the program counter. [`PcbFields::pc`] is the interrupted function's own return
    /// address then.
    pub pc: usize,
    /// Name and offset of each register that a call does not keep.
    pub registers: &'static [(&'static str, usize)],
}

const ALWAYS: u32 = u32::MAX;

/// amd64.
pub const AMD64: PcbFields = PcbFields {
    machine: 62,
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("rbx", 48),
        ("rbp", 32),
        ("rsp", 40),
        ("r12", 24),
        ("r13", 16),
        ("r14", 8),
        ("r15", 0),
        ("rip", 56),
    ],
    pc: "rip",
    trapped: None,
};

/// i386.
pub const I386: PcbFields = PcbFields {
    machine: 3,
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 4,
    registers: &[
        ("ebx", 16),
        ("esp", 12),
        ("ebp", 8),
        ("esi", 4),
        ("edi", 0),
        ("eip", 20),
    ],
    pc: "eip",
    trapped: None,
};

/// arm64 before 1400084: room for x0 to x30 and a program counter, of which a switch saves what a call
/// keeps.
pub const ARM64_OLD: PcbFields = PcbFields {
    machine: 183,
    since: 0,
    until: 1_400_084,
    size: 0,
    word: 8,
    registers: &[
        ("x19", 152),
        ("x20", 160),
        ("x21", 168),
        ("x22", 176),
        ("x23", 184),
        ("x24", 192),
        ("x25", 200),
        ("x26", 208),
        ("x27", 216),
        ("x28", 224),
        ("x29", 232),
        ("x30", 240),
        ("sp", 256),
    ],
    pc: "x30",
    trapped: Some(&Trapped {
        pc: 248,
        registers: &[
            ("x0", 0),
            ("x1", 8),
            ("x2", 16),
            ("x3", 24),
            ("x4", 32),
            ("x5", 40),
            ("x6", 48),
            ("x7", 56),
            ("x8", 64),
            ("x9", 72),
            ("x10", 80),
            ("x11", 88),
            ("x12", 96),
            ("x13", 104),
            ("x14", 112),
            ("x15", 120),
            ("x16", 128),
            ("x17", 136),
            ("x18", 144),
        ],
    }),
};

/// arm64 since 1400084: the callee-saved registers only.
pub const ARM64: PcbFields = PcbFields {
    machine: 183,
    since: 1_400_084,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("x19", 0),
        ("x20", 8),
        ("x21", 16),
        ("x22", 24),
        ("x23", 32),
        ("x24", 40),
        ("x25", 48),
        ("x26", 56),
        ("x27", 64),
        ("x28", 72),
        ("x29", 80),
        ("x30", 88),
        ("sp", 96),
    ],
    pc: "x30",
    trapped: None,
};

/// riscv of 12.1, with room for t0 to t6 before s0; between it and [`RISCV`] the version is not
/// known.
pub const RISCV_OLD: PcbFields = PcbFields {
    machine: 243,
    since: 0,
    until: 1_500_000,
    // 31 registers, 32 floating-point ones of 16 bytes, and four words.
    size: 31 * 8 + 32 * 16 + 4 * 8,
    word: 8,
    registers: &[
        ("ra", 0),
        ("sp", 8),
        ("gp", 16),
        ("tp", 24),
        ("fp", 88),
        ("s1", 96),
        ("s2", 104),
        ("s3", 112),
        ("s4", 120),
        ("s5", 128),
        ("s6", 136),
        ("s7", 144),
        ("s8", 152),
        ("s9", 160),
        ("s10", 168),
        ("s11", 176),
    ],
    pc: "ra",
    trapped: Some(&Trapped {
        pc: 31 * 8 + 32 * 16 + 2 * 8,
        registers: &[
            ("t0", 32),
            ("t1", 40),
            ("t2", 48),
            ("t3", 56),
            ("t4", 64),
            ("t5", 72),
            ("t6", 80),
            ("a0", 184),
            ("a1", 192),
            ("a2", 200),
            ("a3", 208),
            ("a4", 216),
            ("a5", 224),
            ("a6", 232),
            ("a7", 240),
        ],
    }),
};

/// riscv of 15: callee-saved registers only.
pub const RISCV: PcbFields = PcbFields {
    machine: 243,
    since: 1_201_001,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("ra", 0),
        ("sp", 8),
        ("gp", 16),
        ("tp", 24),
        ("fp", 32),
        ("s1", 40),
        ("s2", 48),
        ("s3", 56),
        ("s4", 64),
        ("s5", 72),
        ("s6", 80),
        ("s7", 88),
        ("s8", 96),
        ("s9", 104),
        ("s10", 112),
        ("s11", 120),
    ],
    pc: "ra",
    trapped: None,
};

/// arm.
pub const ARM: PcbFields = PcbFields {
    machine: 40,
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 4,
    registers: &[
        ("r4", 0),
        ("r5", 4),
        ("r6", 8),
        ("r7", 12),
        ("r8", 16),
        ("r9", 20),
        ("r10", 24),
        ("r11", 28),
        ("r12", 32),
        ("sp", 36),
        ("lr", 40),
        ("pc", 44),
    ],
    // `pc` is not written when a thread is switched out.
    pc: "lr",
    trapped: None,
};

/// powerpc64, either byte order.
pub const POWERPC64: PcbFields = PcbFields {
    machine: 21,
    since: 0,
    until: ALWAYS,
    size: 0,
    word: 8,
    registers: &[
        ("r12", 0),
        ("r14", 16),
        ("r15", 24),
        ("r16", 32),
        ("r17", 40),
        ("r18", 48),
        ("r19", 56),
        ("r20", 64),
        ("r21", 72),
        ("r22", 80),
        ("r23", 88),
        ("r24", 96),
        ("r25", 104),
        ("r26", 112),
        ("r27", 120),
        ("r28", 128),
        ("r29", 136),
        ("r30", 144),
        ("r31", 152),
        ("cr", 160),
        ("r1", 168),
        ("r2", 176),
        ("lr", 184),
    ],
    pc: "lr",
    trapped: None,
};

/// mips, registers of 32 bits (o32): `pcb_context`, which follows the trap frame of 40 registers, 32
/// floating-point registers and their two words.
///
/// FreeBSD 12.1 `sys/mips/include/pcb.h`, `regnum.h`, `_types.h`; what is saved, `swtch.S`. `PC` of the
/// context is a place within `cpu_switch` or `savectx`, of which the saved stack pointer is the
/// caller's already.
pub const MIPS32: PcbFields = PcbFields {
    machine: 8,
    since: 0,
    until: ALWAYS,
    size: 296 + 14 * 4 + 4 + 4,
    word: 4,
    registers: &[
        ("s0", 296),
        ("s1", 300),
        ("s2", 304),
        ("s3", 308),
        ("s4", 312),
        ("s5", 316),
        ("s6", 320),
        ("s7", 324),
        ("sp", 328),
        ("s8", 332),
        ("ra", 336),
        ("sr", 340),
        ("gp", 344),
    ],
    pc: "ra",
    trapped: None,
};

/// mips, registers of 64 bits (n64, n32).
pub const MIPS64: PcbFields = PcbFields {
    machine: 8,
    since: 0,
    until: ALWAYS,
    size: 592 + 14 * 8 + 8 + 8,
    word: 8,
    registers: &[
        ("s0", 592),
        ("s1", 600),
        ("s2", 608),
        ("s3", 616),
        ("s4", 624),
        ("s5", 632),
        ("s6", 640),
        ("s7", 648),
        ("sp", 656),
        ("s8", 664),
        ("ra", 672),
        ("sr", 680),
        ("gp", 688),
    ],
    pc: "ra",
    trapped: None,
};

/// All layouts; of one machine the newest first.
pub const ALL: [PcbFields; 10] = [
    AMD64, I386, ARM64, ARM64_OLD, RISCV, RISCV_OLD, ARM, POWERPC64, MIPS64, MIPS32,
];

/// `MAXCOMLEN + 1`: bytes of `p_comm` and `td_name`.
pub const COMM_LEN: usize = 20;
/// `NOCPU` of `td_oncpu` where that is an int.
pub const NOCPU: i64 = -1;
/// The first `__FreeBSD_version` whose `td_oncpu` is surely an int.
pub const ONCPU_INT_SINCE: u32 = 1_100_000;
/// `MAXCPU` of the largest kernels: no CPU has a higher number.
pub const MAXCPU: u32 = 4096;
/// `NOCPU` of 10.x, where `td_oncpu` is one byte.
pub const NOCPU_BYTE: u8 = 255;
/// From this `__FreeBSD_version` on, `stoppcbs` is a pointer and no array.
pub const STOPPCBS_POINTER_SINCE: u32 = 1_400_089;
