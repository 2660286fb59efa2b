//! Registers of a machine's processors, as image formats carry them.
//!
//! One [`CpuState`] for each virtual processor, in the order of the image. What a format does not
//! record is `None`, never a made-up zero.

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
pub struct CpuState {
    /// The processor's number in the image, from 0.
    pub number: u32,
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
