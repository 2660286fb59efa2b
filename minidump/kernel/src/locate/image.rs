//! A kernel's file held against memory, before there are page tables to ask.

use std::sync::Arc;

use livecore_minidump::mmu::{MachineView, Paging, Root};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, PhysMemory, VirtAddr};

/// A kernel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Physical address of the start of the image; amd64's `kernphys`.
    pub kernphys: u64,
    /// Physical address of the root table of the kernel map: the value of `KPML4phys`, or the page
    /// at `pagetable_l0_ttbr1`, ….
    pub root: u64,
    /// The form of that table.
    pub paging: Paging,
}

/// A kernel's file held against memory, as if the image began at `kernphys`.
pub struct Image<'a> {
    memory: &'a Arc<dyn PhysMemory>,
    /// The file.
    pub elf: &'a KernelElf,
    /// The address that its start is linked at.
    link: u64,
    /// Physical address of its start.
    pub kernphys: u64,
}

impl<'a> Image<'a> {
    /// `elf` in `memory`; its start is linked at `link`, and lies at `kernphys`.
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

    /// The physical address of an address of the image.
    pub fn pa(&self, va: u64) -> Option<u64> {
        va.checked_sub(self.link)?.checked_add(self.kernphys)
    }

    /// The integer of `len` bytes, at most 8, at physical address `at`.
    pub fn read(&self, at: u64, len: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.memory.read(PhysAddr(at), &mut bytes[..len]).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The address of a variable.
    pub fn variable(&self, name: &str) -> Option<u64> {
        let symbol = self.elf.symbol(name).filter(|symbol| !symbol.absolute)?;
        Some(symbol.value)
    }

    /// The integer of `len` bytes, at most 8, `offset` bytes into the variable `name`.
    pub fn value(&self, name: &str, offset: u64, len: usize) -> Option<u64> {
        let at = self.variable(name)?.checked_add(offset)?;
        self.read(self.pa(at)?, len)
    }

    /// Whether tables of this form at `table` map the image to where it is: its first variable,
    /// its last one, and those that identify it.
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
