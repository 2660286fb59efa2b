//! The definitions of an architecture.

use std::fmt;

use crate::VirtAddr;
use crate::cpu::CpuFields;
use crate::debuggers::Debuggers;
use crate::elf_machine::ElfMachine;
use crate::minidump::HeaderFields;
use crate::order::ByteOrder;
use crate::paging::{Direct, Section, When};
use crate::pcb::PcbFields;
use crate::pmap::PmapFields;
use crate::prstatus::{Prstatus, Slot};
use crate::registers::RegisterSet;
use crate::trapframe::Traps;

/// The `PT_DUMP_DELTA` of full dumps: where the kernel is in physical memory
/// (`dumpsys_write_aux_headers` in FreeBSD `sys/arm/arm/dump_machdep.c`, and since 15.0 in
/// `sys/x86/x86/dump_machdep.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullDelta {
    /// `p_vaddr`: the link address; `kernbase` of the header if `None`.
    pub base: Option<VirtAddr>,
    /// Bytes between `p_vaddr` and the address that is mapped to `p_paddr`.
    pub hole: u64,
    /// `p_align`.
    pub align: u64,
}

/// An architecture whose kernels write minidumps.
#[derive(Debug)]
pub struct Architecture {
    /// FreeBSD's name of the port, as in the magic of a minidump.
    pub name: &'static str,
    /// `e_machine` of kernels, full dumps and cores.
    pub machine: ElfMachine,
    /// Values of `MACHINE_ARCH`. Without a header, a minidump's is the first that matches its byte
    /// order and word size.
    pub machine_archs: &'static [MachineArch],
    /// The common prefix of `MACHINE_ARCH`, if there are more values.
    pub machine_arch_prefix: Option<&'static str>,
    /// The kerneldumpheader's `architectureversion` (`KERNELDUMP_*_VERSION`).
    pub architectureversion: u32,
    /// Pointer sizes in bytes. If there are two, kernels with 4 use no addresses above 4 GiB.
    pub words: &'static [usize],
    /// Byte orders of the kernels.
    pub orders: &'static [ByteOrder],
    /// Page sizes in bytes.
    pub page_sizes: &'static [u64],
    /// `struct minidumphdr`
    pub header: &'static HeaderFields,
    /// Word sizes of the bitmap in bytes, where they differ from the pointer size.
    pub bitmap_words: &'static [(When, usize)],
    /// The page-table section.
    pub sections: &'static [(When, Section)],
    /// Whether the kernel does not pad the page-table section.
    pub unpadded: bool,
    /// Alignment of `kernbase`.
    pub kernbase_align: &'static [(When, u64)],
    /// `kernbase`, where it is a constant.
    pub kernbase: Option<VirtAddr>,
    /// The direct map.
    pub direct: Direct,
    /// Start and exclusive end of the direct map in each release where it is a constant, newest
    /// first.
    pub direct_maps: &'static [(VirtAddr, VirtAddr)],
    /// Link-time address of the kernel, if it runs at another address: the header's `startkernel`.
    pub linked_at: Option<VirtAddr>,
    /// Whether segments of full dumps have no virtual address (`p_vaddr` is -1).
    pub full_without_vaddr: bool,
    /// The `PT_DUMP_DELTA` of full dumps, if they have one.
    pub full_delta: Option<FullDelta>,
    /// Registers, by word size.
    pub registers: &'static [&'static RegisterSet],
    /// Bits of `e_flags` that mark kernels with 8-byte registers and 4-byte pointers.
    pub wide_registers: u32,
    /// Layouts of `struct pcb`, newest first for each word size.
    pub pcbs: &'static [&'static PcbFields],
    /// Trap frames and entry code.
    pub traps: Traps,
    /// Registers in the notes of ELF cores, if the architecture has them.
    pub prstatus: Option<&'static Prstatus>,
    /// Registers of a CPU in memory images, if all of them have a name.
    pub cpu: Option<&'static CpuFields>,
    /// Links of stack frames, if the architecture has them.
    pub chain: Option<Chain>,
    /// Prologue and epilogue of functions, if the return address is on the stack.
    pub frame_code: Option<FrameCode>,
    /// The variable with the displacement of the copy of the entry code, if there is one.
    pub entry_copy: Option<&'static str>,
    /// Functions in which a stopped CPU waits.
    pub stopped_in: &'static [&'static str],
    /// A process's `struct pmap`.
    pub pmap: Option<&'static PmapFields>,
    /// Size of `time_t`.
    pub time_t: usize,
    /// Whether RAM begins at physical address 0 on all machines.
    pub ram_at_zero: bool,
    /// Whether mem(4) supports memory ranges (`MEMRANGE_GET`).
    pub memory_ranges: bool,
    /// Its names and registers in debuggers.
    pub debuggers: Option<&'static Debuggers>,
}

/// A value of `MACHINE_ARCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineArch {
    /// The name.
    pub name: &'static str,
    /// Byte order.
    pub order: ByteOrder,
    /// Pointer size in bytes.
    pub word: usize,
}

pub(crate) const fn machine_arch(name: &'static str, order: ByteOrder, word: usize) -> MachineArch {
    MachineArch { name, order, word }
}

/// The links of stack frames, as offsets from a frame pointer in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Offset of the caller's frame pointer.
    pub caller: i64,
    /// Offset of the return address.
    pub back: i64,
    /// Whether the return address is in the caller's frame instead of this one.
    pub in_caller: bool,
    /// Offset of the stack pointer before the call that created the frame, if it is constant.
    pub cfa: Option<i64>,
}

impl Chain {
    /// The return address is above the saved frame pointer.
    pub const PLAIN: Self = Self {
        caller: 0,
        back: 1,
        in_caller: false,
        cfa: None,
    };
}

/// The instructions that create and leave a stack frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCode {
    /// The prologue: push the frame pointer, then set it.
    pub push: &'static [u8],
    /// The second instruction of the prologue.
    pub set: &'static [u8],
    /// The return instruction, after the frame is popped.
    pub leave: &'static [u8],
}

impl Architecture {
    /// `MACHINE_ARCH` of kernels with this byte order and pointers of `word` bytes.
    pub fn machine_arch(&self, order: ByteOrder, word: usize) -> &'static str {
        let mut all = self.machine_archs.iter();
        // Every architecture has at least one.
        all.find(|arch| arch.order == order && arch.word == word)
            .unwrap_or(&self.machine_archs[0])
            .name
    }

    /// The registers in `elf_gregset_t` of Linux, in their order: names and sizes in bytes.
    pub fn prstatus_registers(&self) -> &'static [Slot] {
        self.prstatus.map_or(&[], |prstatus| prstatus.linux)
    }

    /// The registers of kernels with registers of `word` bytes.
    pub fn registers(&self, word: usize) -> Option<&'static RegisterSet> {
        let mut all = self.registers.iter().copied();
        all.find(|set| set.class64 == (word == 8))
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Architecture {}

impl std::hash::Hash for Architecture {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
