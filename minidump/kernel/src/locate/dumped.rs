//! Full dumps with the kernel's address translation.
//!
//! A full dump has no section of page tables. The kernel is located in memory, and its own page
//! tables are used.

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_minidump::FullMemory;
use livecore_minidump::mmu::tree::{self, Map};
use livecore_minidump::mmu::{Mapping, WalkEnd};
use livecore_minidump::{DirectMap, PageRun};
use livecore_minidump::{
    DumpMemory, FullDump, KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr,
};

use super::error::LocateError;
use super::machine::Machine;

/// A full dump whose kernel has been located.
pub struct DumpedMachine {
    dump: Arc<FullDump>,
    machine: Machine,
}

impl DumpedMachine {
    /// Locates the kernel `elf` in `dump`.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel is not found or not supported.
    pub fn find(dump: Arc<FullDump>, elf: &KernelElf) -> Result<Self, LocateError> {
        let memory = Arc::new(FullMemory::new(Arc::clone(&dump)));
        let machine = Machine::find(memory, elf)?;
        Ok(Self { dump, machine })
    }

    /// The dump.
    pub fn dump(&self) -> &Arc<FullDump> {
        &self.dump
    }

    /// The machine: the location of the kernel and its address space.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the machine without the dump.
    pub fn into_machine(self) -> Machine {
        self.machine
    }

    /// The maximum number of page tables that a walk reads: the number of pages in memory.
    fn most_tables(&self) -> u64 {
        // `memory().ranges()` does not include ranges beyond the end of the file.
        let ranges = self.machine.view.memory().ranges().iter();
        let bytes: u64 = ranges.map(|range| range.end.0 - range.start.0).sum();
        bytes / self.machine.page_size() + 1
    }
}

impl KernelMemory for DumpedMachine {
    fn page_size(&self) -> u64 {
        self.machine.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.dump.read_phys(at, buf)
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        self.machine.view.translate(at)
    }
}

impl DumpMemory for DumpedMachine {
    fn offset_of(&self, at: PhysAddr) -> Option<u64> {
        self.dump.offset_of(at)
    }

    fn run_at(&self, at: PhysAddr) -> PageRun {
        self.dump.run_at(at)
    }

    fn memory_end(&self) -> PhysAddr {
        self.dump.memory_end()
    }

    fn walk(&self, sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<WalkEnd, ReadError> {
        let kernbase = self.machine.kernbase;
        let Some(root) = self.machine.view.root_of(kernbase) else {
            return Ok(WalkEnd::default());
        };
        let map = Map {
            addresses: kernbase..=*root.covers.end(),
            without: &self.machine.dmap,
            most_tables: self.most_tables(),
        };
        tree::walk(self, root, &map, sink)
    }

    fn direct_map(&self) -> Option<DirectMap> {
        let addresses = self.machine.dmap.clone();
        (!addresses.is_empty()).then_some(DirectMap {
            addresses,
            phys: self.machine.dmapphys,
        })
    }

    fn kernbase(&self) -> Option<VirtAddr> {
        Some(self.machine.kernbase)
    }
}
