//! What a kernel's symbols tell of its memory: variables, threads, registers, stacks.
//!
//! Works over any [`KernelMemory`], a dump or a machine. Threads need the symbol table alone:
//! FreeBSD exports the offsets that a debugger needs as integers. What it does not export, [`Types`]
//! has from a kernel's type information, where there is any.

mod ctf;
mod dwarf;
mod section;
pub mod stack;
pub mod thread;
pub mod types;

use crate::{KernelElf, KernelMemory, ReadError, VirtAddr};

pub use stack::Frame;
pub use thread::{Context, Registers, Thread, Threads};
pub use types::Types;

/// Why something could not be found in a kernel's memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The kernel's file does not name it.
    #[error("the kernel file has no symbol {0}")]
    NoSymbol(String),
    /// It is named, and cannot be read.
    #[error("{what} at {at}: {source}")]
    Unreadable {
        /// A symbol, or a field.
        what: String,
        /// Where it should be.
        at: VirtAddr,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The architecture's registers are not known here.
    #[error("threads of ELF machine {0} are not known")]
    UnknownMachine(u16),
}

/// A kernel: its memory and the symbols that say what is where.
#[derive(Clone, Copy)]
pub struct Kernel<'a> {
    memory: &'a dyn KernelMemory,
    elf: &'a KernelElf,
}

impl<'a> Kernel<'a> {
    /// The kernel in `memory` whose symbols are in `elf`.
    pub fn new(memory: &'a dyn KernelMemory, elf: &'a KernelElf) -> Self {
        Self { memory, elf }
    }

    /// Its symbols.
    pub fn elf(&self) -> &'a KernelElf {
        self.elf
    }

    /// Its memory.
    pub fn memory(&self) -> &'a dyn KernelMemory {
        self.memory
    }

    /// The address of a variable.
    pub fn address(&self, name: &str) -> Result<u64, KernelError> {
        self.elf
            .symbol(name)
            .filter(|s| !s.absolute)
            .map(|s| s.value)
            .ok_or_else(|| KernelError::NoSymbol(name.into()))
    }

    /// The unsigned integer of `len` bytes (1, 2, 4 or 8) at `at`, which errors call `what`.
    pub fn uint_at(&self, what: &str, at: u64, len: usize) -> Result<u64, KernelError> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.bytes_at(what, at, &mut bytes[..len])?;
        // Other lengths than those named are none of the callers' here.
        Ok(self.elf.order().uint(&bytes[..len]).unwrap_or(0))
    }

    /// The pointer at `at`.
    pub fn pointer_at(&self, what: &str, at: u64) -> Result<u64, KernelError> {
        self.uint_at(what, at, self.elf.pointer_size())
    }

    /// Fills `buf` from `at`.
    pub fn bytes_at(&self, what: &str, at: u64, buf: &mut [u8]) -> Result<(), KernelError> {
        let at = VirtAddr(at);
        self.memory
            .read_virt(at, buf)
            .map_err(|source| KernelError::Unreadable {
                what: what.into(),
                at,
                source,
            })
    }

    /// The variable `name`, an integer of `len` bytes.
    pub fn variable(&self, name: &str, len: usize) -> Result<u64, KernelError> {
        self.uint_at(name, self.address(name)?, len)
    }

    /// `__FreeBSD_version`, if `osreldate` is there and is one: 10.0 to 99.x.
    pub fn osreldate(&self) -> Option<u32> {
        let value = u32::try_from(self.variable("osreldate", 4).ok()?).ok()?;
        (1_000_000..100_000_000).contains(&value).then_some(value)
    }
}
