//! Saved registers: `struct pcb` of a thread that does not run, `struct trapframe` of one that was
//! interrupted.
//!
//! FreeBSD `sys/*/include/pcb.h` and `frame.h`; the layouts are promised to debuggers.

/// Where the registers of a `struct pcb` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcbFields {
    /// `e_machine` of the kernels that have it.
    pub machine: u16,
    /// The first `__FreeBSD_version` that has it.
    pub since: u32,
    /// Bytes of a register.
    pub word: usize,
    /// Name and offset of each.
    pub registers: &'static [(&'static str, usize)],
    /// The register that says where the thread goes on: the link register where a pcb has no
    /// program counter that means anything.
    pub pc: &'static str,
    /// The stack pointer.
    pub sp: &'static str,
    /// The frame pointer.
    pub fp: &'static str,
}

/// amd64.
pub const AMD64: PcbFields = PcbFields {
    machine: 62,
    since: 0,
    word: 8,
    registers: &[
        ("rbx", 48),
        ("rsp", 40),
        ("rbp", 32),
        ("r12", 24),
        ("r13", 16),
        ("r14", 8),
        ("r15", 0),
        ("rip", 56),
    ],
    pc: "rip",
    sp: "rsp",
    fp: "rbp",
};

/// i386.
pub const I386: PcbFields = PcbFields {
    machine: 3,
    since: 0,
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
    sp: "esp",
    fp: "ebp",
};

/// arm64 before 1400084: all of x0 to x29.
pub const ARM64_OLD: PcbFields = PcbFields {
    machine: 183,
    since: 0,
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
        ("lr", 240),
        ("sp", 256),
    ],
    pc: "lr",
    sp: "sp",
    fp: "x29",
};

/// arm64 since 1400084: the callee-saved registers only.
pub const ARM64: PcbFields = PcbFields {
    machine: 183,
    since: 1_400_084,
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
        ("lr", 88),
        ("sp", 96),
    ],
    pc: "lr",
    sp: "sp",
    fp: "x29",
};

/// All layouts; of one machine the newest first.
pub const ALL: [PcbFields; 4] = [AMD64, I386, ARM64, ARM64_OLD];

/// Where the parts of a `struct trapframe` are that a walk over a stack needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrapFields {
    /// `e_machine` of the kernels that have it.
    pub machine: u16,
    /// Bytes of a register.
    pub word: usize,
    /// Frame pointer of the entry code to the frame that `calltrap` and kin made.
    pub from_fp: u64,
    /// The interrupted program counter.
    pub pc: u64,
    /// The interrupted frame pointer.
    pub fp: u64,
    /// The interrupted code segment; its two lowest bits are set in user mode.
    pub cs: u64,
    /// The trap's number (u32); interrupt entries do not set it.
    pub trapno: u64,
}

/// amd64. FreeBSD `sys/x86/include/frame.h`.
pub const TRAP_AMD64: TrapFields = TrapFields {
    machine: 62,
    word: 8,
    from_fp: 16,
    pc: 152,
    fp: 64,
    cs: 160,
    trapno: 120,
};

/// Bits of a code segment that say from which ring.
pub const CS_RPL: u64 = 3;
/// The functions of amd64 whose frame lies below a trap frame, besides those of
/// [`TRAP_ENTRY_PREFIXES`].
pub const TRAP_ENTRIES: [&str; 2] = ["calltrap", "nmi_calltrap"];
/// How the names of amd64's other entries begin.
pub const TRAP_ENTRY_PREFIXES: [&str; 2] = ["alltraps", "X"];
/// Where the kernel's part of a stack ends.
pub const STACK_ENDS: [&str; 2] = ["fast_syscall_common", "fork_trampoline"];

/// `MAXCOMLEN + 1`: bytes of `p_comm` and `td_name`.
pub const COMM_LEN: usize = 20;
/// `NOCPU` of `td_oncpu` where that is an int.
pub const NOCPU: i64 = -1;
/// `NOCPU` of 10.x, where `td_oncpu` is one byte.
pub const NOCPU_BYTE: u8 = 255;
/// From this `__FreeBSD_version` on, `stoppcbs` is a pointer and no array.
pub const STOPPCBS_POINTER_SINCE: u32 = 1_400_089;
