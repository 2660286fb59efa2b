//! What differs from processor to processor: table formats, address spaces, saved registers.

use std::ops::Range;

use super::builder::Builder;
use super::description::{Architecture, Description};
use super::error::Error;
use super::kernel::Variable;
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

/// One processor architecture.
pub(crate) trait Processor: Sync {
    /// Its page tables.
    fn format(&self) -> &'static dyn Format;
    /// Its kernel's structures.
    fn layout(&self, release: Release) -> Layout;
    /// Its kernel's addresses, on a machine whose RAM ends at `top`.
    fn space(&self, description: &Description, top: u64) -> Space;
    /// `e_machine`.
    fn elf_machine(&self) -> u16;
    /// Kernel variables that only it has.
    fn variables(&self, description: &Description) -> Vec<Variable>;
    /// Fills the tables as the kernel's start does: direct map, kernel image.
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error>;
    /// Sets its own variables when the kernel map is complete; gives the end of the addresses
    /// that a dump's page map covers.
    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error>;
    /// Writes what of a `struct pmap` says where its tables are.
    fn pmap(&self, builder: &mut Builder<'_>, at: u64, root: u64) -> Result<(), Error>;
    /// Bytes of a pcb with these registers, and their names and values as a debugger reads them.
    fn pcb(&self, size: usize, r: &Registers) -> (Vec<u8>, Vec<(&'static str, u64)>);
    /// Bytes of a trap frame that interrupted the kernel with these registers.
    fn trap_frame(&self, r: &Registers, trap: u32, address: u64) -> Vec<u8>;
    /// Bytes of a trap frame that came from user mode.
    fn user_frame(&self, r: &Registers) -> Vec<u8>;
    /// Whether the page tables at this level are pages of the dump.
    fn dumps_table(&self, level: usize) -> bool;
}

/// The processor of an architecture.
pub(crate) fn of(architecture: Architecture) -> &'static dyn Processor {
    match architecture {
        Architecture::Amd64 => &super::amd64::Amd64,
    }
}
