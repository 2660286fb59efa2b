//! A machine that is understood: its memory, where its kernel is, and how that lays itself out.

use std::ops::Range;
use std::sync::Arc;

use livecore_minidump::mmu::{MachineView, Root};
use livecore_minidump::{Architecture, KernelElf, PhysMemory};

use super::error::LocateError;
use super::image::Located;
use super::port::{Port, port_of};
use super::search::locate;
use crate::kernel::Kernel;

/// A machine whose kernel has been found.
#[derive(Clone)]
pub struct Machine {
    /// Its architecture.
    pub arch: &'static Architecture,
    /// Where the kernel is.
    pub located: Located,
    /// The memory, physical and through the kernel's tables.
    pub view: MachineView,
    /// The lowest address of the kernel map that a dump describes (`VM_MIN_KERNEL_ADDRESS`; i386
    /// `KERNBASE`).
    pub kernbase: u64,
    /// Addresses of the direct map; empty if there is none (i386).
    pub dmap: Range<u64>,
    /// The physical address behind the start of the direct map.
    pub dmapphys: u64,
    /// Physical addresses that the kernel would dump, by its `PHYS_IN_DMAP`: amd64 up to
    /// `dmaplimit`, elsewhere `dmap_phys_base` to `dmap_phys_max`; everything where there
    /// is no such limit.
    pub phys_in_dmap: Range<u64>,
    port: &'static dyn Port,
}

impl Machine {
    /// Finds `elf`'s kernel in `memory`.
    ///
    /// # Errors
    ///
    /// [`LocateError`] says how far the search came.
    pub fn find(memory: Arc<dyn PhysMemory>, elf: &KernelElf) -> Result<Self, LocateError> {
        let located = locate(&memory, elf, port_of(elf)?)?;
        Self::at(memory, located, elf)
    }

    /// The machine whose kernel is known to be there.
    ///
    /// # Errors
    ///
    /// [`LocateError`] if the kernel's addresses cannot be read, or contradict each other.
    pub fn at(
        memory: Arc<dyn PhysMemory>,
        located: Located,
        elf: &KernelElf,
    ) -> Result<Self, LocateError> {
        let port = port_of(elf)?;
        let page_size = located.paging.page_size();
        let all = Root {
            covers: 0..=u64::MAX,
            table: located.root,
            paging: located.paging,
        };
        // Good enough for the image, which says how the rest is laid out.
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

    /// Bytes per page.
    pub fn page_size(&self) -> u64 {
        self.located.paging.page_size()
    }

    /// The physical address behind an address of the direct map.
    pub fn direct(&self, at: u64) -> Option<u64> {
        if !self.dmap.contains(&at) {
            return None;
        }
        (at - self.dmap.start).checked_add(self.dmapphys)
    }

    /// The kernel addresses that a dump describes, from [`Machine::kernbase`] on, and the tree that
    /// they are translated by.
    ///
    /// # Errors
    ///
    /// [`LocateError`] if the kernel's variables cannot be read, or no kernel map ends there.
    pub fn kernel_map(&self, elf: &KernelElf) -> Result<(Range<u64>, &Root), LocateError> {
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

    /// The kernel, read through its own tables.
    pub fn kernel<'a>(&'a self, elf: &'a KernelElf) -> Kernel<'a> {
        Kernel::new(&self.view, elf)
    }
}
