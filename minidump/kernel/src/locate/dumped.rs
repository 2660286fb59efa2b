//! A full dump as its kernel mapped it.
//!
//! What a minidump has sections for is in memory here, as in any machine: the kernel is found by
//! its file, and its own page tables are walked.

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_minidump::full::FullMemory;
use livecore_minidump::memory::{DirectMap, Stretch};
use livecore_minidump::mmu::WalkEnd;
use livecore_minidump::mmu::tree::{self, Map};
use livecore_minidump::{
    DumpMemory, FullDump, KernelElf, KernelMemory, Mapping, PhysAddr, ReadError, VirtAddr,
};

use super::error::LocateError;
use super::machine::Machine;

/// A full dump in which the kernel was found.
pub struct DumpedMachine {
    dump: Arc<FullDump>,
    machine: Machine,
}

impl DumpedMachine {
    /// Finds `elf`'s kernel in `dump`.
    ///
    /// # Errors
    ///
    /// [`LocateError`] says how far the search came.
    pub fn find(dump: Arc<FullDump>, elf: &KernelElf) -> Result<Self, LocateError> {
        let memory = Arc::new(FullMemory::new(Arc::clone(&dump)));
        let machine = Machine::find(memory, elf)?;
        Ok(Self { dump, machine })
    }

    /// The dump.
    pub fn dump(&self) -> &Arc<FullDump> {
        &self.dump
    }

    /// Where its kernel lies and how it maps.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The machine alone.
    pub fn into_machine(self) -> Machine {
        self.machine
    }

    /// The most page tables that a walk reads: each is a page of its own, so that there are no
    /// more of them than pages.
    fn most_tables(&self) -> u64 {
        // Of ranges that the file only claims, memory has what is there.
        let ranges = self.machine.view.memory().ranges().iter();
        let bytes: u64 = ranges.map(|range| range.end - range.start).sum();
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

    fn stretch(&self, at: PhysAddr) -> Stretch {
        self.dump.stretch(at)
    }

    fn memory_end(&self) -> u64 {
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

    fn kernbase(&self) -> Option<u64> {
        Some(self.machine.kernbase)
    }
}
