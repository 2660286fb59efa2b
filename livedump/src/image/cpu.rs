//! Registers of a machine's processors, as image formats carry them.
//!
//! One [`CpuState`] for each virtual processor, in the order of the image; its registers are those
//! of x86, arm64 or riscv64. What a format does not record is `None`, never a made-up zero.

/// One processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuState {
    /// Its number in the image, from 0.
    pub number: u32,
    /// Its registers.
    pub registers: Registers,
}

impl CpuState {
    /// Processor `number` with these registers.
    pub fn new(number: u32, registers: impl Into<Registers>) -> Self {
        Self {
            number,
            registers: registers.into(),
        }
    }

    /// Its registers, if it is an x86 processor.
    pub fn x86(&self) -> Option<&X86> {
        match &self.registers {
            Registers::X86(registers) => Some(registers),
            _ => None,
        }
    }
}

/// The registers of one processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registers {
    /// amd64, i386.
    X86(X86),
    /// arm64.
    Arm64(Arm64),
    /// riscv64.
    Riscv64(Riscv64),
    /// Told in a form that is not read: those of another processor, or of arm64's 32-bit mode.
    Unknown,
}

impl Registers {
    /// Where the processor was: program counter and stack pointer.
    pub fn place(&self) -> Option<(u64, u64)> {
        match self {
            Self::X86(r) => Some((r.rip, r.rsp)),
            Self::Arm64(r) => Some((r.pc, r.sp)),
            Self::Riscv64(r) => Some((r.pc, r.x[Riscv64::SP])),
            Self::Unknown => None,
        }
    }
}

impl From<X86> for Registers {
    fn from(registers: X86) -> Self {
        Self::X86(registers)
    }
}

impl From<Arm64> for Registers {
    fn from(registers: Arm64) -> Self {
        Self::Arm64(registers)
    }
}

impl From<Riscv64> for Registers {
    fn from(registers: Riscv64) -> Self {
        Self::Riscv64(registers)
    }
}

/// The registers of one arm64 processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arm64 {
    /// `x0` to `x30`.
    pub x: [u64; 31],
    /// The stack pointer of the exception level that it was at.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// Flags and the exception level (bits 2 and 3).
    pub pstate: u64,
}

impl Arm64 {
    /// The frame pointer's number.
    pub const FP: usize = 29;
    /// The link register's.
    pub const LR: usize = 30;
    /// In the kernel, the number of the register with the address of `struct pcpu`: FreeBSD
    /// `sys/arm64/include/pcpu.h`.
    pub const PCPU: usize = 18;

    /// Whether it ran a program: at exception level 0.
    pub fn is_user(&self) -> bool {
        self.pstate & 0xc == 0
    }
}

/// The registers of one riscv64 processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Riscv64 {
    /// The program counter.
    pub pc: u64,
    /// `x0` to `x31`; the first is always 0.
    pub x: [u64; 32],
}

impl Riscv64 {
    /// The return address's number.
    pub const RA: usize = 1;
    /// The stack pointer's.
    pub const SP: usize = 2;
    /// The thread pointer's: in the kernel it has the address of `struct pcpu` (FreeBSD
    /// `sys/riscv/include/pcpu.h`).
    pub const TP: usize = 4;
    /// The frame pointer's.
    pub const FP: usize = 8;

    /// Whether it ran a program, whose addresses are the lower half.
    pub fn is_user(&self) -> bool {
        self.pc >> 63 == 0
    }
}

/// A segment register, or a descriptor table's register (of which only base and limit count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The limit, in bytes.
    pub limit: u32,
    /// Attributes of the descriptor's second word, as the processor caches them.
    pub flags: u32,
    /// The linear base address.
    pub base: u64,
}

/// Segment registers and descriptor tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segments {
    /// Code.
    pub cs: Segment,
    /// Data.
    pub ds: Segment,
    /// Extra.
    pub es: Segment,
    /// FS; its base is a user thread's `fsbase`.
    pub fs: Segment,
    /// GS; in the kernel of amd64 its base is the processor's `struct pcpu`.
    pub gs: Segment,
    /// Stack.
    pub ss: Segment,
    /// Local descriptor table.
    pub ldt: Segment,
    /// Task.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdt: Segment,
    /// Interrupt descriptor table.
    pub idt: Segment,
    /// `MSR_KGSBASE`: what `swapgs` would exchange with the base of GS.
    pub kernel_gs_base: Option<u64>,
}

/// Control registers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Control {
    /// CR0: protection, paging (bit 31).
    pub cr0: u64,
    /// CR2: the address of the last page fault.
    pub cr2: u64,
    /// CR3: the physical address of the root page table, and flags below it.
    pub cr3: u64,
    /// CR4: PAE (bit 5), five levels (bit 12), …
    pub cr4: u64,
}

impl Control {
    /// Whether addresses are translated: `CR0.PG`.
    pub fn paging(&self) -> bool {
        self.cr0 & (1 << 31) != 0
    }

    /// The physical address of the root page table, without the flags of CR3.
    pub fn root(&self) -> u64 {
        self.cr3 & 0x000f_ffff_ffff_f000
    }
}

/// The registers of one x86 processor. Those of a 32-bit processor are zero-extended, `r8` to
/// `r15` are then 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct X86 {
    /// Whether the registers are those of a 32-bit format (`EM_386`'s `NT_PRSTATUS`).
    pub is_32: bool,
    /// General registers, one by one.
    pub rax: u64,
    /// RBX.
    pub rbx: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The frame pointer.
    pub rbp: u64,
    /// R8.
    pub r8: u64,
    /// R9.
    pub r9: u64,
    /// R10.
    pub r10: u64,
    /// R11.
    pub r11: u64,
    /// R12.
    pub r12: u64,
    /// R13.
    pub r13: u64,
    /// R14.
    pub r14: u64,
    /// R15.
    pub r15: u64,
    /// The instruction pointer.
    pub rip: u64,
    /// The flags register.
    pub rflags: u64,
    /// Segments and descriptor tables, where the format has them: VMware's is not known to.
    /// `NT_PRSTATUS` alone has selectors and two bases only: limits and flags are 0 then, and the
    /// tables.
    pub segments: Option<Segments>,
    /// Control registers, where the format has them: `NT_PRSTATUS` does not.
    pub control: Option<Control>,
}
