//! A process's address space, for MEM_EXTRACT_PADDR.

use std::sync::Arc;

use minidump::defs::amd64::{
    PAGE_SHIFT, PDPSHIFT, PDRSHIFT, PG_FRAME, PG_PS, PG_V, PML4SHIFT, PTE_SIZE,
};

use super::emulated::AddressSpace;
use super::{Extracted, MemError};
use crate::PhysMemory;
use crate::sys::memrange::MeState;

/// The end of user addresses with four levels of tables (`VM_MAXUSER_ADDRESS_LA48`).
const VM_MAXUSER_ADDRESS: u64 = 1 << 47;

/// The user half of a process on amd64, by its page tables alone.
///
/// A kernel asks the process's map first and the tables then. Of the map a machine's memory tells
/// nothing that can be found without type information; here an address is in the map if it has a
/// page-table page, valid entry or not. So what the process has mapped but never touched, 2 MiB
/// around, is [`MeState::Invalid`] where a kernel says [`MeState::Valid`].
pub struct Process {
    memory: Arc<dyn PhysMemory>,
    root: u64,
}

impl Process {
    /// The process whose PML4 lies at physical address `root`: its `pm_cr3`, or `pcb_cr3` of one
    /// of its threads.
    pub fn new(memory: Arc<dyn PhysMemory>, root: u64) -> Self {
        Self {
            memory,
            root: root & PG_FRAME,
        }
    }
}

impl AddressSpace for Process {
    fn extract(&self, vaddr: u64) -> Result<Extracted, MemError> {
        let invalid = Ok(Extracted::unmapped(MeState::Invalid));
        if vaddr >= VM_MAXUSER_ADDRESS {
            return invalid;
        }
        let mut table = self.root;
        for shift in [PML4SHIFT, PDPSHIFT, PDRSHIFT, PAGE_SHIFT] {
            let slot = table + (vaddr >> shift & 511) * PTE_SIZE as u64;
            let mut bytes = [0; PTE_SIZE];
            if self.memory.read(slot, &mut bytes).is_err() {
                return invalid;
            }
            let entry = u64::from_le_bytes(bytes);
            if entry & PG_V == 0 {
                return Ok(Extracted::unmapped(if shift == PAGE_SHIFT {
                    MeState::Valid
                } else {
                    MeState::Invalid
                }));
            }
            let leaf = shift == PAGE_SHIFT || (shift != PML4SHIFT && entry & PG_PS != 0);
            if leaf {
                let inside = (1 << shift) - 1;
                let paddr = (entry & PG_FRAME & !inside) | (vaddr & inside);
                // The driver takes 0 for "not mapped".
                return Ok(if paddr == 0 {
                    Extracted::unmapped(MeState::Valid)
                } else {
                    Extracted {
                        state: MeState::Mapped,
                        paddr,
                        domain: 0,
                    }
                });
            }
            table = entry & PG_FRAME;
        }
        invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RawImage;
    use std::os::unix::fs::FileExt;

    #[test]
    fn invalid_valid_and_mapped_addresses_of_a_process() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let put = |at: u64, entry: u64| file.write_all_at(&entry.to_le_bytes(), at).unwrap();
        // PML4 0x1000, PDP 0x2000, PD 0x3000, PT 0x4000; a page, a hole, page 0; a 2 MiB leaf.
        put(0x1000, 0x2007);
        put(0x2000, 0x3007);
        put(0x3000 + 8 * 4, 0x4007);
        put(0x3000 + 8 * 5, 0x60_0087);
        put(0x4000, 0x8000_0000_0009_9007);
        put(0x4000 + 16, 0x7);
        let whole = 0..1 << 20;
        let memory = RawImage::new(file, std::slice::from_ref(&whole)).unwrap();
        let process = Process::new(Arc::new(memory), 0x1000 | 0x18);
        let extract = |at| process.extract(at).unwrap();
        let mapped = |paddr| Extracted {
            state: MeState::Mapped,
            paddr,
            domain: 0,
        };
        assert_eq!(extract(0x80_0123), mapped(0x9_9123));
        assert_eq!(extract(0xa1_2345), mapped(0x61_2345));
        assert_eq!(extract(0x80_1000).state, MeState::Valid);
        assert_eq!(extract(0x80_2000).state, MeState::Valid, "page 0");
        assert_eq!(extract(0xc0_0000).state, MeState::Invalid);
        assert_eq!(extract(1 << 46).state, MeState::Invalid);
        assert_eq!(extract(0xffff_fe00_0000_0000).state, MeState::Invalid);
    }
}
