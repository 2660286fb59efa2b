//! CPU registers in image formats.
//!
//! There is one [`CpuState`] for each virtual CPU, in the image's order, with registers of x86,
//! arm64 or riscv64. A value that a format does not record is `None`, never zero.

/// The state of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuState {
    /// The number in the image, from 0.
    pub number: u32,
    /// The registers.
    pub registers: Registers,
}

impl CpuState {
    /// CPU `number` with these registers.
    pub fn new(number: u32, registers: impl Into<Registers>) -> Self {
        Self {
            number,
            registers: registers.into(),
        }
    }

    /// The registers of an x86 CPU.
    pub fn x86(&self) -> Option<&X86> {
        match &self.registers {
            Registers::X86(registers) => Some(registers),
            _ => None,
        }
    }
}

/// The registers of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registers {
    /// amd64, i386.
    X86(X86),
    /// arm64.
    Arm64(Arm64),
    /// riscv64.
    Riscv64(Riscv64),
    /// Registers in an unsupported format: of another processor, or of arm64's 32-bit mode.
    Unknown,
}

impl Registers {
    /// The program counter and the stack pointer.
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

/// The registers of an arm64 CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arm64 {
    /// `x0` to `x30`.
    pub x: [u64; 31],
    /// The stack pointer of the current exception level.
    pub sp: u64,
    /// The program counter.
    pub pc: u64,
    /// Flags and the exception level (bits 2 and 3).
    pub pstate: u64,
}

impl Arm64 {
    /// The number of the frame pointer.
    pub const FP: usize = 29;
    /// The number of the link register.
    pub const LR: usize = 30;
    /// The number of the register with the address of `struct pcpu` in the kernel: FreeBSD
    /// `sys/arm64/include/pcpu.h`.
    pub const PCPU: usize = 18;

    /// Whether the CPU was in user mode, exception level 0.
    pub fn is_user(&self) -> bool {
        self.pstate & 0xc == 0
    }
}

/// The registers of a riscv64 CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Riscv64 {
    /// The program counter.
    pub pc: u64,
    /// `x0` to `x31`; `x0` is always 0.
    pub x: [u64; 32],
}

impl Riscv64 {
    /// The number of the return address.
    pub const RA: usize = 1;
    /// The number of the stack pointer.
    pub const SP: usize = 2;
    /// The number of the thread pointer, which has the address of `struct pcpu` in the kernel
    /// (FreeBSD `sys/riscv/include/pcpu.h`).
    pub const TP: usize = 4;
    /// The number of the frame pointer.
    pub const FP: usize = 8;

    /// Whether the CPU was in user mode, whose addresses are the lower half.
    pub fn is_user(&self) -> bool {
        self.pc >> 63 == 0
    }
}

/// A segment register, or a descriptor table register, for which only base and limit are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The limit, in bytes.
    pub limit: u32,
    /// Attributes from the descriptor's second word, as the processor caches them.
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

/// The registers of an x86 CPU. Those of a 32-bit CPU are zero-extended, and `r8` to `r15` are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct X86 {
    /// Whether the registers are those of a 32-bit format (`EM_386`'s `NT_PRSTATUS`).
    pub is_32: bool,
    /// General registers.
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
    /// Segments and descriptor tables, if the format has them. VMware's format has none.
    /// `NT_PRSTATUS` has only selectors and two bases; limits, flags and descriptor tables are 0
    /// then.
    pub segments: Option<Segments>,
    /// Control registers, if the format has them. `NT_PRSTATUS` has none.
    pub control: Option<Control>,
}
