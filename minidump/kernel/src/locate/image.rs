//! Reads a kernel's variables from physical memory, before its page tables are known.

use std::sync::Arc;

use livecore_minidump::mmu::{MachineView, Paging, Root};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, PhysMemory, VirtAddr};

/// The location of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The start of the image; amd64's `kernphys`.
    pub kernphys: PhysAddr,
    /// The root page table of the kernel: the value of `KPML4phys`, the page at
    /// `pagetable_l0_ttbr1`, ….
    pub root: PhysAddr,
    /// The format of the page tables.
    pub paging: Paging,
}

/// A kernel image in memory, assuming that it starts at `kernphys`.
pub struct KernelImage<'a> {
    memory: &'a Arc<dyn PhysMemory>,
    /// The kernel file.
    pub elf: &'a KernelElf,
    /// The linked address of its start.
    link: VirtAddr,
    /// The physical address of its start.
    pub kernphys: PhysAddr,
}

impl<'a> KernelImage<'a> {
    /// Creates the image of `elf` in `memory`. Its start is linked at `link` and loaded at physical
    /// address `kernphys`.
    pub fn new(
        memory: &'a Arc<dyn PhysMemory>,
        elf: &'a KernelElf,
        link: VirtAddr,
        kernphys: PhysAddr,
    ) -> Self {
        Self {
            memory,
            elf,
            link,
            kernphys,
        }
    }

    /// Converts a virtual address of the image to a physical address.
    pub fn pa(&self, va: VirtAddr) -> Option<PhysAddr> {
        self.kernphys.checked_add(va.offset_from(self.link)?)
    }

    /// Reads the integer of `len` bytes, at most 8, at `at`.
    pub fn read(&self, at: PhysAddr, len: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.memory.read(at, &mut bytes[..len]).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Returns the address of a variable.
    pub fn variable(&self, name: &str) -> Option<VirtAddr> {
        let symbol = self.elf.symbol(name).filter(|symbol| !symbol.absolute)?;
        Some(VirtAddr(symbol.value))
    }

    /// Reads the integer of `len` bytes, at most 8, at `offset` in the variable `name`.
    pub fn value(&self, name: &str, offset: u64, len: usize) -> Option<u64> {
        let at = self.variable(name)?.checked_add(offset)?;
        self.read(self.pa(at)?, len)
    }

    /// Whether page tables of this format at `table` map the variables `version`, `dump_avail` and
    /// `msgbufp` of the image to their physical addresses.
    pub fn is_mapped_by(&self, table: PhysAddr, paging: Paging) -> bool {
        let root = Root {
            covers: VirtAddr(0)..=VirtAddr::MAX,
            table,
            paging,
        };
        let view = MachineView::new(self.memory.clone(), vec![root], paging.page_size());
        ["version", "dump_avail", "msgbufp"]
            .into_iter()
            .filter_map(|name| self.variable(name))
            .all(|va| {
                let found = view.translate(va).ok();
                found.is_some() && found == self.pa(va)
            })
    }
}
