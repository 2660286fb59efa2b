//! The address space of a process, for MEM_EXTRACT_PADDR.

use std::ops::Range;
use std::sync::Arc;

use livecore_minidump::{KernelElf, PhysAddr, VirtAddr};

use super::AddressSpace;
use super::domains::Domains;
use super::user_map::{self, words};
use crate::mem4::{Extracted, MemError};
use crate::sys::memrange::MeState;
use livecore_defs::pmap::PmapFields;
use livecore_kernel::KernelError;
use livecore_kernel::locate::Machine;
use livecore_minidump::PhysMemory;
use livecore_minidump::mmu::{Entry, MachineView, Paging, Root};

/// The most processes of a system; a longer list is circular.
const PROCESSES: u32 = 1 << 20;
/// Bytes of `struct proc` and `struct vmspace` that are searched.
const PROC: usize = 0x600;
const VMSPACE: usize = 0x400;

/// The user half of a process: its map and its page tables.
///
/// Without the map, an address counts as valid if it has a page-table page, even without a valid
/// entry. So mapped memory is then [`MeState::Invalid`] here and [`MeState::Valid`] for a kernel if
/// neither it nor memory close to it (2 MiB; 32 MiB with pages of 16 KiB) was ever touched, and
/// unmapped memory close to touched memory is valid here and invalid for a kernel.
pub struct Process {
    /// Without a root if it has no tables of its own, as the kernel's processes.
    view: MachineView,
    /// The entries of its `vm_map`, if that was found.
    map: Option<Vec<Range<u64>>>,
    /// The domains of physical addresses.
    domains: Domains,
}

impl Process {
    /// The process with the root table at `root`, in the format `paging`. `None`
    /// if the range of user addresses is unknown for this format.
    pub fn new(memory: Arc<dyn PhysMemory>, paging: Paging, root: PhysAddr) -> Option<Self> {
        Some(Self::with(
            memory,
            paging,
            paging.geometry().user_end?,
            Some(root),
        ))
    }

    /// The process whose addresses end at `end`.
    fn with(
        memory: Arc<dyn PhysMemory>,
        paging: Paging,
        end: VirtAddr,
        root: Option<PhysAddr>,
    ) -> Self {
        let root = root.map(|table| Root {
            covers: VirtAddr(0)..=VirtAddr(end.0 - 1),
            table,
            paging,
        });
        let roots = root.into_iter().collect();
        Self {
            view: MachineView::new(memory, roots, paging.page_size()),
            map: None,
            domains: Domains::default(),
        }
    }

    /// Finds process `pid` of a machine.
    ///
    /// `allproc` and offsets that the kernel exports lead to its `struct proc`. The following
    /// offsets are not exported, so the page tables are recognized: some pointer of the process
    /// points to a structure that contains a `struct pmap`, whose two words for the root table
    /// match.
    ///
    /// # Errors
    ///
    /// [`MemError::NoSuchProcess`], or [`MemError::Io`] if the list of processes cannot be read.
    pub fn find(machine: &Machine, elf: &KernelElf, pid: u32) -> Result<Self, MemError> {
        let paging = machine.located.paging;
        let (fields, end) = (machine.arch.pmap, paging.geometry().user_end);
        let Some((fields, end)) = fields.zip(end) else {
            return Err(MemError::Io {
                doing: "translate an address of a process",
                source: std::io::Error::new(
                    std::io::ErrorKind::Unsupported,
                    format!(
                        "page tables of processes are unsupported on {}",
                        machine.arch
                    ),
                ),
            });
        };
        let proc_at = list(machine, elf, pid)?.ok_or(MemError::NoSuchProcess { pid })?;
        let vmspace = words(machine, proc_at, PROC)
            .into_iter()
            .filter(|pointer| pointer >> 63 == 1 && pointer % 8 == 0)
            .filter_map(|vmspace| {
                let vmspace = VirtAddr(vmspace);
                let root = user_root(machine, fields, vmspace)?;
                Some((root, user_map::read(machine, vmspace, end)))
            })
            .min_by_key(|(_, map)| map.is_none());
        let memory = machine.view.memory().clone();
        let (root, map) = vmspace.unzip();
        Ok(Self {
            map: map.flatten(),
            domains: Domains::read(machine, elf),
            ..Self::with(memory, paging, end, root)
        })
    }
}

/// Finds the address of `struct proc` of `pid` in `allproc`.
fn list(machine: &Machine, elf: &KernelElf, pid: u32) -> Result<Option<VirtAddr>, MemError> {
    let kernel = machine.kernel(elf);
    let broken = |error: KernelError| MemError::Io {
        doing: "read the process list",
        source: match error {
            KernelError::Unreadable { source, .. } => std::io::Error::other(source),
            other => std::io::Error::other(other),
        },
    };
    let variable = |name, len| kernel.variable(name, len).map_err(broken);
    let next = variable("proc_off_p_list", 4)?;
    let id = variable("proc_off_p_pid", 4)?;
    let mut at = VirtAddr(variable("allproc", 8)?);
    for _ in 0..PROCESSES {
        if at == VirtAddr(0) {
            break;
        }
        let field = |offset, len| kernel.uint_at("allproc", at.wrapping_add(offset), len);
        if field(id, 4).map_err(broken)? == u64::from(pid) {
            return Ok(Some(at));
        }
        at = VirtAddr(field(next, 8).map_err(broken)?);
    }
    Ok(None)
}

/// The root table of the `struct pmap` inside `vmspace`, unless it is the kernel's.
fn user_root(machine: &Machine, fields: &PmapFields, vmspace: VirtAddr) -> Option<PhysAddr> {
    let words = words(machine, vmspace, VMSPACE);
    (0..words.len()).find_map(|start| {
        let root = machine.direct(VirtAddr(*words.get(start + fields.top / 8)?))?;
        let (says, mask) = (root.0 >> fields.also_shift, fields.also_mask);
        let agrees = fields.also.iter().any(|also| {
            let word = words.get(start + also / 8);
            word.is_some_and(|word| word & mask == says)
        });
        let plausible =
            root.0 != 0 && root.offset_in(machine.page_size()) == 0 && root != machine.located.root;
        (agrees && plausible).then_some(root)
    })
}

impl AddressSpace for Process {
    fn extract(&self, vaddr: VirtAddr) -> Result<Extracted, MemError> {
        let valid = Extracted::unmapped(MeState::Valid);
        // What an address without a page-table page is.
        let untouched = match &self.map {
            Some(map) if map.iter().any(|entry| entry.contains(&vaddr.0)) => valid,
            Some(_) => return Ok(Extracted::unmapped(MeState::Invalid)),
            None => Extracted::unmapped(MeState::Invalid),
        };
        let Some(root) = self.view.root_of(vaddr) else {
            return Ok(untouched);
        };
        let levels = root.paging.geometry().levels;
        let Ok(found) = self.view.lookup(root, vaddr, levels.len() - 1) else {
            return Ok(untouched);
        };
        Ok(match found.entry {
            Entry::Invalid if found.depth + 1 == levels.len() => valid,
            // A walk ends within the levels.
            Entry::Leaf(frame) => match levels[found.depth].address(frame, vaddr) {
                // The driver takes 0 for "not mapped".
                PhysAddr(0) => valid,
                paddr => Extracted {
                    state: MeState::Mapped,
                    paddr,
                    domain: self.domains.of(paddr),
                },
            },
            // The last level has no tables.
            Entry::Invalid | Entry::Table(_) => untouched,
        })
    }

    fn has_map(&self) -> bool {
        // A process of the kernel has no addresses.
        self.map.is_some() || self.view.roots().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RawImage;
    use std::os::unix::fs::FileExt;

    #[test]
    fn addresses_of_a_process_are_invalid_valid_or_mapped() {
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
        let whole = PhysAddr(0)..PhysAddr(1 << 20);
        let memory = RawImage::new(file, std::slice::from_ref(&whole)).unwrap();
        let process = Process::new(Arc::new(memory), Paging::Amd64, PhysAddr(0x1000)).unwrap();
        let extract = |at| process.extract(VirtAddr(at)).unwrap();
        let mapped = |paddr| Extracted {
            state: MeState::Mapped,
            paddr: PhysAddr(paddr),
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
