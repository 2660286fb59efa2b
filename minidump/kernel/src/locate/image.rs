//! Reads a kernel's variables from physical memory, before its page tables are known.

use std::sync::Arc;

use livecore_minidump::mmu::{MachineView, Paging, Root};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, PhysMemory, VirtAddr};

/// The location of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Physical address of the start of the image; amd64's `kernphys`.
    pub kernphys: u64,
    /// Physical address of the root page table of the kernel: the value of `KPML4phys`, the page at
    /// `pagetable_l0_ttbr1`, ….
    pub root: u64,
    /// The format of the page tables.
    pub paging: Paging,
}

/// A kernel image in memory, assuming that it starts at `kernphys`.
pub struct Image<'a> {
    memory: &'a Arc<dyn PhysMemory>,
    /// The kernel file.
    pub elf: &'a KernelElf,
    /// The linked address of its start.
    link: u64,
    /// The physical address of its start.
    pub kernphys: u64,
}

impl<'a> Image<'a> {
    /// Creates the image of `elf` in `memory`. Its start is linked at `link` and loaded at physical
    /// address `kernphys`.
    pub fn new(
        memory: &'a Arc<dyn PhysMemory>,
        elf: &'a KernelElf,
        link: u64,
        kernphys: u64,
    ) -> Self {
        Self {
            memory,
            elf,
            link,
            kernphys,
        }
    }

    /// Converts a virtual address of the image to a physical address.
    pub fn pa(&self, va: u64) -> Option<u64> {
        va.checked_sub(self.link)?.checked_add(self.kernphys)
    }

    /// Reads the integer of `len` bytes, at most 8, at physical address `at`.
    pub fn read(&self, at: u64, len: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.memory.read(PhysAddr(at), &mut bytes[..len]).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Returns the address of a variable.
    pub fn variable(&self, name: &str) -> Option<u64> {
        let symbol = self.elf.symbol(name).filter(|symbol| !symbol.absolute)?;
        Some(symbol.value)
    }

    /// Reads the integer of `len` bytes, at most 8, at `offset` in the variable `name`.
    pub fn value(&self, name: &str, offset: u64, len: usize) -> Option<u64> {
        let at = self.variable(name)?.checked_add(offset)?;
        self.read(self.pa(at)?, len)
    }

    /// Whether page tables of this format at `table` map the variables `version`, `dump_avail` and
    /// `msgbufp` of the image to their physical addresses.
    pub fn is_mapped_by(&self, table: u64, paging: Paging) -> bool {
        let root = Root {
            covers: 0..=u64::MAX,
            table,
            paging,
        };
        let view = MachineView::new(self.memory.clone(), vec![root], paging.page_size());
        ["version", "dump_avail", "msgbufp"]
            .into_iter()
            .filter_map(|name| self.variable(name))
            .all(|va| {
                let found = view.translate(VirtAddr(va)).ok();
                found.is_some() && found.map(|pa| pa.0) == self.pa(va)
            })
    }
}
