//! What the verifier asks about a kernel, and what it offers in return: two traits.
//!
//! The verifier reads no kernel file. Its caller implements [`KernelFacts`] over whatever reads
//! symbol tables and type information; to list threads the caller reads the dump through
//! [`DumpedMemory`], which the verifier implements with its own page-table walks.

use std::ops::Range;

use livecore_defs::ElfMachine;

/// A symbol that names an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its link-time address.
    pub address: u64,
    /// Bytes, as far as the linker knew; 0 otherwise.
    pub size: u64,
}

/// A kernel's file: its symbols, initial contents and types.
pub trait KernelFacts: Sync {
    /// ELF's number of the machine that it is for.
    fn machine(&self) -> ElfMachine;

    /// Whether it is a 64-bit kernel.
    fn is_64(&self) -> bool;

    /// The symbol `name`, unless it is absent or absolute.
    fn symbol(&self, name: &str) -> Option<Symbol>;

    /// The link-time address and name of every symbol that is not absolute, in any order.
    fn symbols(&self) -> Vec<(u64, &str)>;

    /// The `len` bytes at link-time address `at`, if all of them are in the file.
    fn contents(&self, at: u64, len: usize) -> Option<Vec<u8>>;

    /// The threads of the kernel in `memory`; `None` if the file does not say how to list them.
    fn threads(&self, memory: &dyn DumpedMemory) -> Option<Threads>;
}

/// The memory of a dumped kernel.
pub trait DumpedMemory: Send + Sync {
    /// Bytes per page.
    fn page_size(&self) -> u64;

    /// Fills `buf` from physical address `at`.
    ///
    /// # Errors
    ///
    /// The first address that the dump does not have.
    fn read_phys(&self, at: u64, buf: &mut [u8]) -> Result<(), u64>;

    /// The physical address that kernel address `at` is mapped to.
    fn translate(&self, at: u64) -> Option<u64>;

    /// How far above its link-time addresses the kernel runs, modulo 2^64.
    fn displacement(&self) -> u64;
}

/// The threads of a dumped kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads {
    /// What could not be read, in words.
    pub problems: Vec<String>,
    /// Those that are switched out and whose registers were found.
    pub sleeping: Vec<SleepingThread>,
}

/// A thread that is switched out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SleepingThread {
    /// Its number and title, for reports.
    pub name: String,
    /// Its kernel stack, if the kernel's types say where that is.
    pub stack: Option<Range<u64>>,
    /// The saved stack pointer.
    pub sp: u64,
    /// The saved frame pointer.
    pub fp: u64,
}
