//! Translates kernel virtual addresses by the page tables in a machine's memory.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::entry::{Entry, decode};
use super::paging::Paging;
use crate::{KernelMemory, PhysAddr, PhysMemory, ReadError, VirtAddr};

/// A tree of page tables and the addresses that it translates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The addresses.
    pub covers: RangeInclusive<VirtAddr>,
    /// The root table.
    pub table: PhysAddr,
    /// The page-table format.
    pub paging: Paging,
}

/// The kernel's address space of a machine: physical memory and the roots of the page tables.
#[derive(Clone)]
pub struct MachineView {
    memory: Arc<dyn PhysMemory>,
    /// The first one that covers an address translates it.
    roots: Vec<Root>,
    page_size: u64,
}

/// The entry at which a walk of the tables ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundEntry {
    /// Levels below the root.
    pub depth: usize,
    /// The entry in memory.
    pub raw: u64,
    /// The decoded entry.
    pub entry: Entry,
}

impl MachineView {
    /// Creates a view that translates by `roots`, with pages of `page_size` bytes.
    pub fn new(memory: Arc<dyn PhysMemory>, roots: Vec<Root>, page_size: u64) -> Self {
        Self {
            memory,
            roots,
            page_size,
        }
    }

    /// The physical memory.
    pub fn memory(&self) -> &Arc<dyn PhysMemory> {
        &self.memory
    }

    /// The trees of page tables.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The tree that translates `at`.
    pub fn root_of(&self, at: VirtAddr) -> Option<&Root> {
        self.roots.iter().find(|root| root.covers.contains(&at))
    }

    /// Looks up the entry for `at`, `depth` levels below the root, or less if the tables end
    /// earlier.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if a table cannot be read.
    pub fn lookup(&self, root: &Root, at: VirtAddr, depth: usize) -> Result<FoundEntry, ReadError> {
        let geometry = root.paging.geometry();
        let mut table = root.table;
        let mut here = 0;
        loop {
            // `here` is at most `depth`, which is below the number of levels.
            let slot = geometry.levels[here].index(at) * geometry.entry_size as u64;
            let mut bytes = [0; 8];
            self.read_phys(table.wrapping_add(slot), &mut bytes[..geometry.entry_size])?;
            let raw = u64::from_le_bytes(bytes);
            let entry = decode(geometry, here, raw);
            match entry {
                Entry::Table(next) if here < depth => {
                    table = next;
                    here += 1;
                }
                _ => {
                    return Ok(FoundEntry {
                        depth: here,
                        raw,
                        entry,
                    });
                }
            }
        }
    }

    /// Reads the page at `at`, which is a table.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if it cannot be read.
    pub fn page(&self, at: PhysAddr) -> Result<Box<[u8]>, ReadError> {
        let mut bytes = vec![0; self.page_size as usize];
        self.read_phys(at, &mut bytes)?;
        Ok(bytes.into())
    }
}

impl KernelMemory for MachineView {
    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.memory.read(at, buf).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                ReadError::Hole { at }
            } else {
                ReadError::Io { at, source }
            }
        })
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        let unmapped = |why| Err(ReadError::NotMapped { at, why });
        let Some(root) = self.root_of(at) else {
            return unmapped("the address is not canonical");
        };
        let levels = root.paging.geometry().levels;
        let found = self.lookup(root, at, levels.len() - 1)?;
        // `depth` is less than the number of levels.
        let level = &levels[found.depth];
        match found.entry {
            Entry::Leaf(frame) => Ok(level.address(frame, at)),
            // The last level has no tables.
            Entry::Invalid | Entry::Table(_) => unmapped(level.missing),
        }
    }
}
