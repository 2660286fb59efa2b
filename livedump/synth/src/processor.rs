//! What differs from processor to processor: table formats, address spaces, memory maps, saved
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
    /// Where the kernel's image is linked to start.
    pub(crate) kernstart: u64,
    /// The direct map, as a dump's header gives it.
    pub(crate) dmap: Range<u64>,
    /// Physical address behind its start.
    pub(crate) dmap_phys: u64,
    /// Physical end of what its tables map.
    pub(crate) dmaplimit: u64,
    /// End of a process's addresses.
    pub(crate) user_end: u64,
}

/// The context of a thread, as its processor saves it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Registers {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
    /// Callee-saved registers beside the frame pointer.
    pub(crate) saved: [u64; 5],
    /// Physical address of the root table of its address space.
    pub(crate) root: u64,
}

/// Where a function that is called with some stack pointer keeps its frame.
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

/// Where a trap that finds some stack pointer keeps its frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrapAt {
    /// Address of the trap frame, and the stack pointer of what handles it.
    pub(crate) frame: u64,
    /// Address of a frame record that the entry makes of the interrupted context, if it does.
    pub(crate) record: Option<u64>,
}

/// One processor architecture.
pub(crate) trait Processor: Sync {
    /// Its page tables.
    fn format(&self) -> &'static dyn Format;
    /// What its functions are made of.
    fn code(&self) -> &'static Code;
    /// What the functions of this release's kernel are called.
    fn names(&self, release: Release) -> &'static Names;
    /// Its kernel's structures.
    fn layout(&self, release: Release) -> Layout;
    /// What of it is firmware's.
    fn firmware(&self, ram: &[Range<u64>]) -> Vec<Range<u64>>;
    /// Its kernel's addresses, on a machine with this RAM.
    fn space(&self, ram: &[Range<u64>], description: &Description) -> Space;
    /// Kernel variables that only it has.
    fn variables(&self, description: &Description) -> Vec<Variable>;
    /// Physical address of the root table, if that is part of the image loaded at `load`.
    fn root(&self, kernel: &Kernel, load: u64) -> Result<Option<u64>, Error>;
    /// Bytes behind the image that the kernel's start has taken and mapped with it.
    fn behind_image(&self) -> u64 {
        0
    }
    /// The level of large leaves in the kernel map, if it has them.
    fn large(&self) -> Option<usize>;
    /// Physical addresses of devices that the kernel maps, and pages.
    fn devices(&self, space: &Space) -> Vec<(u64, u64)>;
    /// What of a `struct pmap` says where its tables are, root at `root` and in the direct map at
    /// `direct`: offsets and words.
    fn pmap(&self, release: Release, root: u64, direct: u64) -> Vec<(u64, u64)>;
    /// Bytes of a pcb with these registers, and their names and values as a debugger reads them.
    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>);
    /// Bytes of a trap frame of a context that was interrupted in the kernel or in user mode.
    fn trap_frame(&self, r: &Registers, trap: Trap) -> Vec<u8>;
    /// Where a called function's frame is.
    fn frame(&self, sp: u64, locals: u64) -> FrameAt;
    /// Where the frame of a trap is that interrupted the kernel or user mode.
    fn trap(&self, sp: u64, user: bool) -> TrapAt;
    /// What an entry passes on the stack to the function that it calls, the last argument first.
    fn arguments(&self, _entry: &str, _frame: u64) -> Vec<u64> {
        Vec::new()
    }
    /// The stack pointer of a saved context whose function has stack pointer `sp`: with it the
    /// slot of the return address, if that is in memory.
    fn saved_sp(&self, sp: u64) -> (u64, Option<u64>);
    /// The variable with the addresses through which the kernel's own walk looks at tables, and the
    /// bytes that one table there maps.
    fn window(&self) -> Option<(&'static str, u64)> {
        None
    }
    /// Whether the page tables at this level are pages of the dump.
    fn dumps_table(&self, level: usize) -> bool;
}

/// What a trap frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// A page fault in the kernel, at this address.
    Fault(u64),
    /// An interrupt of the kernel that is not masked.
    Nmi,
    /// An interrupt of the kernel.
    Interrupt,
    /// A system call, or a process's first instruction.
    User,
}
