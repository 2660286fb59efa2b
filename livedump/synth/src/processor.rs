//! The differences between architectures: page table formats, address spaces, memory maps, saved
//! registers, frames.

use std::ops::Range;

use super::chains::Names;
use super::code::Code;
use super::description::Description;
use super::error::Error;
use super::kernel::{Kernel, Variable};
use super::layout::{Layout, Release};
use super::tables::Format;

/// The kernel's virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes per page.
    pub(crate) page_size: u64,
    /// `VM_MIN_KERNEL_ADDRESS`.
    pub(crate) vm_min: u64,
    /// `KERNBASE`.
    pub(crate) kernbase: u64,
    /// Address at which the linked kernel image starts.
    pub(crate) kernstart: u64,
    /// The direct map, as in a dump's header.
    pub(crate) dmap: Range<u64>,
    /// Physical address that its start maps.
    pub(crate) dmap_phys: u64,
    /// Physical end of the memory that its tables map.
    pub(crate) dmaplimit: u64,
    /// End of a process's addresses.
    pub(crate) user_end: u64,
}

/// The context of a thread, as the processor saves it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Registers {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
    /// Callee-saved registers other than the frame pointer.
    pub(crate) saved: [u64; 5],
    /// Physical address of the root table of its address space.
    pub(crate) root: u64,
}

/// The frame of a function that is called with a given stack pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt {
    /// Its frame pointer.
    pub(crate) fp: u64,
    /// Address of the saved frame pointer; the return address follows it.
    pub(crate) record: u64,
    /// First byte of its locals.
    pub(crate) locals: u64,
    /// Its own stack pointer.
    pub(crate) sp: u64,
}

/// The frame of a trap that occurs with a given stack pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrapAt {
    /// Address of the trap frame, and stack pointer of the handler.
    pub(crate) frame: u64,
    /// Address of the frame record that the entry makes of the interrupted context, if any.
    pub(crate) record: Option<u64>,
}

/// One processor architecture.
pub(crate) trait Processor: Sync {
    /// Its page table format.
    fn format(&self) -> &'static dyn Format;
    /// The instructions of its functions.
    fn code(&self) -> &'static Code;
    /// The names of the functions of its kernel.
    fn names(&self, description: &Description) -> &'static Names;
    /// Its kernel's structures.
    fn layout(&self, release: Release) -> Layout;
    /// The memory that firmware reserves.
    fn firmware(&self, ram: &[Range<u64>]) -> Vec<Range<u64>>;
    /// Its kernel's addresses, on a machine with this RAM.
    fn space(&self, ram: &[Range<u64>], description: &Description) -> Space;
    /// The kernel variables of this architecture only.
    fn variables(&self, description: &Description) -> Vec<Variable>;
    /// Physical address of the root table, if it is part of the image loaded at `load`.
    fn root(&self, kernel: &Kernel, load: u64) -> Result<Option<u64>, Error>;
    /// Bytes after the image that the kernel's start uses and maps with it.
    fn behind_image(&self) -> u64 {
        0
    }
    /// The level of large leaves in the kernel map, if it has them.
    fn large(&self) -> Option<usize>;
    /// Devices that the kernel maps: physical addresses and numbers of pages.
    fn devices(&self, space: &Space) -> Vec<(u64, u64)>;
    /// The fields of a `struct pmap` that locate its tables, for a root at `root` and at `direct`
    /// in the direct map: offsets and words.
    fn pmap(&self, release: Release, root: u64, direct: u64) -> Vec<(u64, u64)>;
    /// The bytes of a pcb with these registers, and their names and values as a debugger reads
    /// them.
    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>);
    /// The bytes of the trap frame of an interrupted context.
    fn trap_frame(&self, r: &Registers, trap: Trap) -> Vec<u8>;
    /// The frame of a called function.
    fn frame(&self, sp: u64, locals: u64) -> FrameAt;
    /// The frame of a trap that interrupts the kernel or user mode.
    fn trap(&self, sp: u64, user: bool) -> TrapAt;
    /// The arguments that an entry passes on the stack, the last one first.
    fn arguments(&self, _entry: &str, _frame: u64) -> Vec<u64> {
        Vec::new()
    }
    /// The stack pointer in the saved context of a function with stack pointer `sp`, and the stack
    /// slot of the return address, if it is in memory.
    fn saved_sp(&self, sp: u64) -> (u64, Option<u64>);
    /// The variable with the addresses through which the kernel's own page table walk reads tables,
    /// and the bytes that one table there maps.
    fn window(&self) -> Option<(&'static str, u64)> {
        None
    }
    /// Whether a dump contains the page tables of this level.
    fn dumps_table(&self, level: usize) -> bool;
}

/// The cause of a trap frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// A page fault in the kernel, at this address.
    Fault(u64),
    /// A non-maskable interrupt of the kernel.
    Nmi,
    /// An interrupt of the kernel.
    Interrupt,
    /// A system call, or a process's first instruction.
    User,
}
