//! A machine: its memory, the location of its kernel, and the kernel's address space.

use std::ops::Range;
use std::sync::Arc;

use livecore_minidump::mmu::{MachineView, Root};
use livecore_minidump::{Architecture, KernelElf, PhysAddr, PhysMemory, VirtAddr};

use super::error::LocateError;
use super::image::Located;
use super::port::{Port, port_of};
use super::search::locate;
use crate::kernel::Kernel;

/// A machine whose kernel has been located.
#[derive(Clone)]
pub struct Machine {
    /// Its architecture.
    pub arch: &'static Architecture,
    /// The location of the kernel.
    pub located: Located,
    /// The memory, with the kernel's address translation.
    pub view: MachineView,
    /// The lowest kernel address in a dump's page tables (`VM_MIN_KERNEL_ADDRESS`; i386
    /// `KERNBASE`).
    pub kernbase: VirtAddr,
    /// The addresses of the direct map; empty if there is none (i386).
    pub dmap: Range<VirtAddr>,
    /// The physical address of the start of the direct map.
    pub dmapphys: PhysAddr,
    /// The physical addresses that the kernel would dump, by its `PHYS_IN_DMAP`: on amd64 those
    /// below `dmaplimit`, on other architectures `dmap_phys_base` to `dmap_phys_max`; all addresses
    /// if there is no limit.
    pub phys_in_dmap: Range<PhysAddr>,
    port: &'static dyn Port,
}

impl Machine {
    /// Locates the kernel `elf` in `memory`.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel is not found or not supported.
    pub fn find(memory: Arc<dyn PhysMemory>, elf: &KernelElf) -> Result<Self, LocateError> {
        let located = locate(&memory, elf, port_of(elf)?)?;
        Self::at(memory, located, elf)
    }

    /// Creates the machine with a kernel at a known location.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel's variables cannot be read or contradict each other.
    pub fn at(
        memory: Arc<dyn PhysMemory>,
        located: Located,
        elf: &KernelElf,
    ) -> Result<Self, LocateError> {
        let port = port_of(elf)?;
        let page_size = located.paging.page_size();
        let all = Root {
            covers: VirtAddr(0)..=VirtAddr::MAX,
            table: located.root,
            paging: located.paging,
        };
        // This translates the image's addresses. The image has the variables for the others.
        let view = MachineView::new(memory.clone(), vec![all], page_size);
        let space = port.space(&Kernel::new(&view, elf), &located)?;
        Ok(Self {
            arch: port.arch(),
            located,
            view: MachineView::new(memory, space.roots, page_size),
            kernbase: space.kernbase,
            dmap: space.dmap,
            dmapphys: space.dmapphys,
            phys_in_dmap: space.phys_in_dmap,
            port,
        })
    }

    /// The page size in bytes.
    pub fn page_size(&self) -> u64 {
        self.located.paging.page_size()
    }

    /// Converts an address of the direct map to a physical address.
    pub fn direct(&self, at: VirtAddr) -> Option<PhysAddr> {
        if !self.dmap.contains(&at) {
            return None;
        }
        self.dmapphys.checked_add(at.offset_from(self.dmap.start)?)
    }

    /// Returns the kernel addresses in a dump's page tables, from [`Machine::kernbase`], and the
    /// root of their page tables.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel's variables cannot be read or the end address is invalid.
    pub fn kernel_map(&self, elf: &KernelElf) -> Result<(Range<VirtAddr>, &Root), LocateError> {
        let (start, end) = (self.kernbase, self.port.kva_end(&self.kernel(elf))?);
        let limit = self.port.kva_limit();
        match self.view.root_of(start) {
            Some(root) if end <= limit => Ok((start..end, root)),
            _ => Err(LocateError::Contradiction {
                what: "kernel_vm_end",
                found: format!("{end:#x}"),
                expected: format!("{start:#x} to {limit:#x}"),
            }),
        }
    }

    /// The kernel, with its own address translation.
    pub fn kernel<'a>(&'a self, elf: &'a KernelElf) -> Kernel<'a> {
        Kernel::new(&self.view, elf)
    }
}
