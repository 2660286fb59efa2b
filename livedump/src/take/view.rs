//! An amd64 machine's memory as its processor sees it: the kernel's page tables, walked.

use std::io;
use std::sync::Arc;

use minidump::defs::amd64::{
    NPTEPG, PAGE_SHIFT, PAGE_SIZE, PDPSHIFT, PDRSHIFT, PG_FRAME, PG_PS, PG_V, PML4SHIFT, PTE_SIZE,
};
use minidump::{KernelMemory, PhysAddr, ReadError, VirtAddr};

use crate::PhysMemory;

/// Shift of the PML5 index.
const PML5SHIFT: u32 = 48;

/// The kernel's address space of an amd64 machine: physical memory and the root of its tables.
#[derive(Clone)]
pub struct MachineView {
    memory: Arc<dyn PhysMemory>,
    /// `KPML4phys`
    pml4: u64,
    /// `KPML5phys`, on a kernel whose own layout has five levels.
    pml5: Option<u64>,
}

impl MachineView {
    /// The view through the PML4 at physical address `pml4`. With a PML5, addresses below the
    /// last 2^48 bytes go through it; the last 2^48 bytes are `pml4`'s either way.
    pub fn new(memory: Arc<dyn PhysMemory>, pml4: u64, pml5: Option<u64>) -> Self {
        Self { memory, pml4, pml5 }
    }

    /// The physical memory.
    pub fn memory(&self) -> &Arc<dyn PhysMemory> {
        &self.memory
    }

    /// Physical address of the PML4.
    pub fn pml4(&self) -> u64 {
        self.pml4
    }

    fn entry(&self, table: u64, at: VirtAddr, shift: u32) -> Result<u64, ReadError> {
        let index = at.0 >> shift & (NPTEPG - 1);
        // A table's address has 52 bits.
        let slot = PhysAddr((table & PG_FRAME) + index * PTE_SIZE as u64);
        let mut bytes = [0; PTE_SIZE];
        self.read_phys(slot, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A page of page-table entries.
    pub(super) fn table(&self, at: u64) -> Result<Box<Table>, ReadError> {
        let mut bytes = Box::new(Table([0; PAGE_SIZE as usize]));
        self.read_phys(PhysAddr(at & PG_FRAME), &mut bytes.0)?;
        Ok(bytes)
    }
}

/// A page of page-table entries.
pub(super) struct Table(pub(super) [u8; PAGE_SIZE as usize]);

impl Table {
    /// The entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = u64> + '_ {
        let (entries, _) = self.0.as_chunks::<PTE_SIZE>();
        entries.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Entry `index` modulo their number.
    pub(super) fn get(&self, index: u64) -> u64 {
        let (entries, _) = self.0.as_chunks::<PTE_SIZE>();
        u64::from_le_bytes(entries[(index % NPTEPG) as usize])
    }
}

impl KernelMemory for MachineView {
    fn page_size(&self) -> u64 {
        PAGE_SIZE
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.memory.read(at.0, buf).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                ReadError::Hole { at }
            } else {
                ReadError::Io { at, source }
            }
        })
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        let unmapped = |why| Err(ReadError::NotMapped { at, why });
        let table = match self.pml5 {
            _ if at.0 >= 0xffff_8000_0000_0000 => self.pml4,
            None if at.0 >= 1 << 47 => return unmapped("the address is not canonical"),
            None => self.pml4,
            Some(_) if (1 << 56..u64::MAX << 56).contains(&at.0) => {
                return unmapped("the address is not canonical");
            }
            Some(pml5) => {
                let entry = self.entry(pml5, at, PML5SHIFT)?;
                if entry & PG_V == 0 {
                    return unmapped("its PML5 entry is not valid");
                }
                entry
            }
        };
        let mut table = table;
        for (shift, why) in [
            (PML4SHIFT, "its PML4 entry is not valid"),
            (PDPSHIFT, "its PDP entry is not valid"),
            (PDRSHIFT, "its page-directory entry is not valid"),
            (PAGE_SHIFT, "its page-table entry is not valid"),
        ] {
            let entry = self.entry(table, at, shift)?;
            if entry & PG_V == 0 {
                return unmapped(why);
            }
            let leaf = match shift {
                PAGE_SHIFT => true,
                PML4SHIFT => false,
                _ => entry & PG_PS != 0,
            };
            if leaf {
                let inside = (1 << shift) - 1;
                return Ok(PhysAddr((entry & PG_FRAME & !inside) | (at.0 & inside)));
            }
            table = entry;
        }
        unmapped("its tables have no leaf")
    }
}
