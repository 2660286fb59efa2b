//! One row for each architecture: everything that is looked up by it.

use std::fmt;

use crate::elf::ElfMachine;
use crate::minidump::HeaderFields;
use crate::order::ByteOrder;
use crate::paging::{Direct, Section, When};
use crate::pcb::PcbFields;
use crate::pmap::PmapFields;
use crate::prstatus::Prstatus;
use crate::registers::RegisterSet;
use crate::trapframe::Traps;

/// An architecture whose kernels write minidumps.
#[derive(Debug)]
pub struct Architecture {
    /// FreeBSD's name of the port, as the magic of a minidump has it.
    pub name: &'static str,
    /// `e_machine` of its kernels, of their full dumps and of their cores.
    pub machine: ElfMachine,
    /// Its values of `MACHINE_ARCH`. The first that fits the byte order and the word size is what a
    /// minidump alone tells.
    pub machine_archs: &'static [MachineArch],
    /// What every `MACHINE_ARCH` begins with, where there are more than those.
    pub machine_arch_prefix: Option<&'static str>,
    /// The kerneldumpheader's `architectureversion` (`KERNELDUMP_*_VERSION`).
    pub architectureversion: u32,
    /// Bytes of a pointer. Where there are two, kernels with 4 have no addresses above 4 GiB.
    pub words: &'static [usize],
    /// The byte orders that its kernels come in.
    pub orders: &'static [ByteOrder],
    /// Bytes per page.
    pub page_sizes: &'static [u64],
    /// `struct minidumphdr`
    pub header: &'static HeaderFields,
    /// Bytes of the bitmap's words, where they are not those of a pointer.
    pub bitmap_words: &'static [(When, usize)],
    /// The page-table section.
    pub sections: &'static [(When, Section)],
    /// Whether the kernel leaves the section's end unpadded.
    pub unpadded: bool,
    /// What `kernbase` is a multiple of.
    pub kernbase_align: &'static [(When, u64)],
    /// `kernbase`, where it is a constant.
    pub kernbase: Option<u64>,
    /// The direct map.
    pub direct: Direct,
    /// First address and exclusive end of every direct map that a kernel was built with, where it is
    /// a constant. The newest first.
    pub direct_maps: &'static [(u64, u64)],
    /// The address that the kernel's file is linked at, where a minidump's kernel ran elsewhere: at
    /// the header's `startkernel`.
    pub linked_at: Option<u64>,
    /// Full dumps: whether segments have no virtual address (`p_vaddr` is -1).
    pub full_without_vaddr: bool,
    /// Full dumps: whether they have a `PT_DUMP_DELTA`.
    pub full_delta: bool,
    /// Registers, by word size.
    pub registers: &'static [&'static RegisterSet],
    /// Bits of a kernel's `e_flags` that say that registers have 8 bytes though pointers have 4.
    pub wide_registers: u32,
    /// `struct pcb`; of one word size the newest first.
    pub pcbs: &'static [&'static PcbFields],
    /// Trap frames and entry code.
    pub traps: Traps,
    /// Registers in the notes of ELF cores, if there are such cores.
    pub prstatus: Option<&'static Prstatus>,
    /// How stack frames are chained, if they are.
    pub chain: Option<Chain>,
    /// The code that makes a stack frame and leaves it, where the return address is on the stack.
    pub frame_code: Option<FrameCode>,
    /// The variable that says how far from it a copy of the entry code runs, if there is one.
    pub entry_copy: Option<&'static str>,
    /// Functions in which a stopped processor waits.
    pub stopped_in: &'static [&'static str],
    /// A process's `struct pmap`.
    pub pmap: Option<&'static PmapFields>,
    /// Bytes of `time_t`.
    pub time_t: usize,
    /// Whether the RAM of all machines begins at physical address 0.
    pub ram_at_zero: bool,
    /// Whether mem(4) knows memory ranges (`MEMRANGE_GET`).
    pub memory_ranges: bool,
    /// What debuggers call it.
    pub debuggers: Option<Debuggers>,
}

/// A value of `MACHINE_ARCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineArch {
    /// The name.
    pub name: &'static str,
    /// The byte order of such kernels.
    pub order: ByteOrder,
    /// Bytes of their pointers.
    pub word: usize,
}

pub(crate) const fn machine_arch(name: &'static str, order: ByteOrder, word: usize) -> MachineArch {
    MachineArch { name, order, word }
}

/// How stack frames are chained: words from a frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Where the caller's frame pointer is saved.
    pub caller: i64,
    /// Where the return address is saved.
    pub back: i64,
    /// Whether the return address is in the caller's frame, not in this one.
    pub in_caller: bool,
}

impl Chain {
    /// Return address above the saved frame pointer.
    pub const PLAIN: Self = Self {
        caller: 0,
        back: 1,
        in_caller: false,
    };
}

/// Instructions around a stack frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameCode {
    /// What makes a frame: the frame pointer is pushed, then set.
    pub push: &'static [u8],
    /// The second half of it.
    pub set: &'static [u8],
    /// What leaves a function whose frame is gone.
    pub leave: &'static [u8],
}

/// What debuggers call an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debuggers {
    /// GDB's name of it.
    pub gdb: &'static str,
    /// LLVM's triple.
    pub triple: &'static str,
}

impl Architecture {
    /// `MACHINE_ARCH` of its kernels with this byte order and pointers of `word` bytes.
    pub fn machine_arch(&self, order: ByteOrder, word: usize) -> &'static str {
        let mut all = self.machine_archs.iter();
        // Every row has a name.
        all.find(|arch| arch.order == order && arch.word == word)
            .unwrap_or(&self.machine_archs[0])
            .name
    }

    /// The registers of its kernels, if registers have `word` bytes.
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
