//! CPU registers in image formats.
//!
//! There is one [`CpuState`] for each virtual CPU, in the image's order. A value that a format does
//! not record is `None`, never zero.

use livecore_defs::cpu::CpuFields;
use livecore_defs::{Architecture, PhysAddr, VirtAddr};

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
    /// An architecture with a row [`CpuFields`].
    Named(Named),
    /// Registers in an unsupported format: of another processor, or of arm64's 32-bit mode.
    Unknown,
}

impl Registers {
    /// The program counter and the stack pointer.
    pub fn place(&self) -> Option<(VirtAddr, VirtAddr)> {
        match self {
            Self::X86(r) => Some((VirtAddr(r.rip), VirtAddr(r.rsp))),
            Self::Named(r) => Some((VirtAddr(r.get("pc")?), VirtAddr(r.get("sp")?))),
            Self::Unknown => None,
        }
    }
}

impl From<X86> for Registers {
    fn from(registers: X86) -> Self {
        Self::X86(registers)
    }
}

impl From<Named> for Registers {
    fn from(registers: Named) -> Self {
        Self::Named(registers)
    }
}

/// The maximum number of registers in a row.
const REGISTERS: usize = 34;

/// The registers of an architecture that are all in its [`Prstatus`](livecore_defs::prstatus::Prstatus).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    arch: &'static Architecture,
    fields: &'static CpuFields,
    values: [u64; REGISTERS],
}

impl Named {
    /// The registers of `arch` with these values, in the order of Linux's `elf_gregset_t`. `None` if
    /// the architecture has no row [`CpuFields`]. Missing values are 0.
    pub fn new(arch: &'static Architecture, values: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut all = [0; REGISTERS];
        for (to, value) in all.iter_mut().zip(values) {
            *to = value;
        }
        Some(Self {
            arch,
            fields: arch.cpu?,
            values: all,
        })
    }

    /// The architecture.
    pub fn arch(&self) -> &'static Architecture {
        self.arch
    }

    /// The definitions of the registers.
    pub fn fields(&self) -> &'static CpuFields {
        self.fields
    }

    fn index(&self, name: &str) -> Option<usize> {
        let mut slots = self.arch.prstatus_registers().iter();
        slots.position(|(register, _)| *register == name)
    }

    /// The value of the register with this name of GDB's.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values.get(self.index(name)?).copied()
    }

    /// The same registers, except that the one with this name has this value.
    #[must_use]
    pub fn with(mut self, name: &str, value: u64) -> Self {
        if let Some(register) = self.index(name).and_then(|at| self.values.get_mut(at)) {
            *register = value;
        }
        self
    }

    /// Whether the CPU was in user mode.
    pub fn is_user(&self) -> bool {
        match self.fields.user_mode {
            Some((register, mask)) => self.get(register).is_some_and(|value| value & mask == 0),
            None => self.get("pc").is_some_and(|pc| pc >> 63 == 0),
        }
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
    pub fn root(&self) -> PhysAddr {
        PhysAddr(self.cr3 & 0x000f_ffff_ffff_f000)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_all_registers_that_are_used_by_name() {
        for row in Architecture::ALL {
            let Some(cpu) = Named::new(row, 1..) else {
                continue;
            };
            let slots = row.prstatus_registers();
            assert!(slots.len() <= REGISTERS, "{row}");
            assert!(cpu.fields.monitor.len() >= slots.len(), "{row}");
            let mut used = vec!["pc", "sp", cpu.fields.pcpu];
            used.extend(cpu.fields.user_mode.map(|(name, _)| name));
            used.extend(cpu.fields.shown.iter().map(|(_, name)| *name));
            for name in used {
                assert!(
                    cpu.get(name).is_some_and(|value| value > 0),
                    "{name} of {row}"
                );
                assert_eq!(cpu.with(name, 0).get(name), Some(0));
            }
        }
    }
}
