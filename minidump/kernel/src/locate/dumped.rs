//! A full dump as its kernel mapped it.
//!
//! What a minidump has sections for is in memory here, as in any machine: the kernel is found by
//! its file, and its own page tables are walked.

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_minidump::full::FullMemory;
use livecore_minidump::memory::{DirectMap, Stretch};
use livecore_minidump::mmu::{Entry, Root, WalkEnd, decode, entries, protection};
use livecore_minidump::{
    DumpMemory, FullDump, KernelElf, KernelMemory, Mapping, PhysAddr, Protection, ReadError,
    VirtAddr,
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

/// A walk over a kernel map, on its way.
struct Walk<'a> {
    memory: &'a DumpedMachine,
    root: &'a Root,
    tables_left: u64,
    end: WalkEnd,
    sink: &'a mut dyn FnMut(Mapping) -> ControlFlow<()>,
}

impl Walk<'_> {
    /// What the table at `table`, `depth` levels below the root, maps of `from..=to`.
    fn table(
        &mut self,
        table: u64,
        depth: usize,
        (from, to): (u64, u64),
        outer: Protection,
    ) -> Result<(), ReadError> {
        let geometry = self.root.paging.geometry();
        let level = &geometry.levels[depth];
        let mut bytes = vec![0; geometry.entry_size * level.entries as usize];
        let read = match self.tables_left.checked_sub(1) {
            None => false,
            Some(left) => {
                self.tables_left = left;
                match self.memory.read_phys(PhysAddr(table), &mut bytes) {
                    Ok(()) => true,
                    Err(ReadError::Hole { .. } | ReadError::BeyondEnd { .. }) => false,
                    Err(error) => return Err(error),
                }
            }
        };
        if !read {
            self.end.tables_missing += 1;
            return Ok(());
        }
        let list: Vec<u64> = entries(&bytes, geometry.entry_size).collect();
        let inside = level.span() - 1;
        let direct = &self.memory.machine.dmap;
        let mut at = from;
        loop {
            let last = (at | inside).min(to);
            // An index is below the number of entries.
            let raw = list[level.index(at) as usize];
            let own = protection(geometry, raw);
            let both = Protection {
                write: outer.write && own.write,
                execute: outer.execute && own.execute,
            };
            match decode(geometry, depth, raw) {
                _ if direct.contains(&at) => {}
                Entry::Invalid => {}
                Entry::Table(next) => {
                    let allowed = if geometry.restricts { both } else { outer };
                    // The last level has no tables.
                    self.table(next, depth + 1, (at, last), allowed)?;
                }
                Entry::Leaf(frame) => {
                    let mapping = Mapping {
                        va: VirtAddr(at),
                        pa: PhysAddr((frame & !inside) | (at & inside)),
                        len: last - at + 1,
                        protection: both,
                    };
                    self.end.stopped = (self.sink)(mapping).is_break();
                }
            }
            if self.end.stopped || last >= to {
                return Ok(());
            }
            at = last + 1;
        }
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
        Some(self.dump.offset_of(at)?.0)
    }

    fn stretch(&self, at: PhysAddr) -> Stretch {
        self.dump.stretch(at)
    }

    fn memory_end(&self) -> u64 {
        self.dump.memory_end()
    }

    fn walk(&self, sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<WalkEnd, ReadError> {
        let mut walk = Walk {
            memory: self,
            root: match self.machine.view.root_of(self.machine.kernbase) {
                Some(root) => root,
                None => return Ok(WalkEnd::default()),
            },
            tables_left: self.most_tables(),
            end: WalkEnd::default(),
            sink,
        };
        let all = Protection {
            write: true,
            execute: true,
        };
        let addresses = (self.machine.kernbase, *walk.root.covers.end());
        walk.table(walk.root.table, 0, addresses, all)?;
        Ok(walk.end)
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
