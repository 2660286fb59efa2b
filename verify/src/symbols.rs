//! The interface between the verifier and a reader of kernel files.
//!
//! The verifier does not read kernel files. The caller implements [`KernelFacts`] with a reader of
//! symbol tables and type information. To list threads that reader reads the dump through
//! [`DumpedMemory`], which the verifier implements with its own page-table walk.

use std::ops::Range;

use livecore_defs::{ElfMachine, PhysAddr, VirtAddr};

/// A symbol with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its link-time address.
    pub address: VirtAddr,
    /// Size in bytes; 0 if the symbol table does not state it.
    pub size: u64,
}

/// A kernel file: its symbols, initial contents and types.
pub trait KernelFacts: Sync {
    /// The ELF machine number.
    fn machine(&self) -> ElfMachine;

    /// Whether the kernel is a 64-bit one.
    fn is_64(&self) -> bool;

    /// The symbol `name`, unless it is absent or absolute.
    fn symbol(&self, name: &str) -> Option<Symbol>;

    /// Link-time address and name of every symbol that is not absolute, in any order.
    fn symbols(&self) -> Vec<(VirtAddr, &str)>;

    /// The `len` bytes at link-time address `at`; `None` unless the file contains all of them.
    fn contents(&self, at: VirtAddr, len: usize) -> Option<Vec<u8>>;

    /// Whether the kernel in `memory` set PG_NODUMP of a page; `None` if the file or the memory lacks
    /// what is needed.
    fn nodump<'m>(&'m self, memory: &'m dyn DumpedMemory) -> Option<NoDump<'m>>;

    /// The threads of the kernel in `memory`; `None` if the file lacks what is needed to list them.
    fn threads(&self, memory: &dyn DumpedMemory) -> Option<Threads>;
}

/// Whether the kernel set PG_NODUMP of the page at an address; false if the page has no flags.
pub type NoDump<'m> = Box<dyn Fn(PhysAddr) -> bool + 'm>;

/// The memory of a dumped kernel.
pub trait DumpedMemory: Send + Sync {
    /// Page size in bytes.
    fn page_size(&self) -> u64;

    /// Fills `buf` from physical address `at`.
    ///
    /// # Errors
    ///
    /// Returns the first address that the dump does not have.
    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), PhysAddr>;

    /// The physical address that kernel address `at` is mapped to.
    fn translate(&self, at: VirtAddr) -> Option<PhysAddr>;

    /// Some pages of `range` that are in the dump, evenly spread: at most `count`.
    fn sample(&self, range: Range<PhysAddr>, count: u64) -> Vec<PhysAddr>;

    /// The kernel's load address minus its link-time address, modulo 2^64.
    fn displacement(&self) -> u64;
}

/// The threads of a dumped kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads {
    /// What could not be read, as text.
    pub problems: Vec<String>,
    /// The threads that are not running and whose registers were found.
    pub sleeping: Vec<SleepingThread>,
}

/// A thread that is not running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SleepingThread {
    /// Thread id and name, for reports.
    pub name: String,
    /// The kernel stack, if the kernel's type information gives its location.
    pub stack: Option<Range<VirtAddr>>,
    /// The saved stack pointer.
    pub sp: VirtAddr,
    /// The saved frame pointer.
    pub fp: VirtAddr,
}
