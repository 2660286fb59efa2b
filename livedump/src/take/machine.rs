//! A machine that is understood: its memory, where its kernel is, and how that lays itself out.

use std::ops::Range;
use std::sync::Arc;

use minidump::KernelElf;
use minidump::defs::amd64;

use super::TakeError;
use super::kernel::Variables;
use super::locate::{Located, locate};
use super::view::MachineView;
use crate::PhysMemory;

/// A machine whose kernel has been found.
#[derive(Clone)]
pub struct Machine {
    /// Where the kernel is.
    pub located: Located,
    /// The memory, physical and through the kernel's tables.
    pub view: MachineView,
    /// The lowest address of the kernel map (`VM_MIN_KERNEL_ADDRESS`).
    pub km_low: u64,
    /// Addresses of the direct map.
    pub dmap: Range<u64>,
    /// `dmaplimit`: the physical end of the direct map; 0 if the kernel does not say.
    pub dmaplimit: u64,
}

/// Whether the kernel is of the one architecture that is dumped from outside.
fn only_amd64(elf: &KernelElf) -> Result<(), TakeError> {
    const EM_X86_64: u16 = 62;
    if elf.machine() == EM_X86_64 && elf.is_64() {
        return Ok(());
    }
    let machine = elf.machine();
    Err(TakeError::Unsupported {
        what: format!("a kernel of ELF machine {machine}; amd64's is {EM_X86_64}"),
    })
}

impl Machine {
    /// Finds `elf`'s kernel, of an amd64 machine, in `memory`.
    pub fn find(memory: Arc<dyn PhysMemory>, elf: &KernelElf) -> Result<Self, TakeError> {
        only_amd64(elf)?;
        let located = locate(&*memory, elf)?;
        Self::at(memory, located, elf)
    }

    /// The machine whose kernel is known to be there.
    pub(super) fn at(
        memory: Arc<dyn PhysMemory>,
        located: Located,
        elf: &KernelElf,
    ) -> Result<Self, TakeError> {
        only_amd64(elf)?;
        let mut machine = Self {
            located,
            view: MachineView::new(memory.clone(), located.pml4, None),
            km_low: amd64::VM_MIN_KERNEL_ADDRESS,
            dmap: amd64::DMAP_MIN_ADDRESS..amd64::DMAP_MAX_ADDRESS,
            dmaplimit: 0,
        };
        let variables = machine.variables(elf);
        let dmaplimit = match variables.find("dmaplimit") {
            Some(at) => variables.u64_at("dmaplimit", at)?,
            None => 0,
        };
        let layout = match variables.find("kva_layout") {
            Some(at) => Some(KvaLayout::read(variables, at)?),
            None => None,
        };
        machine.dmaplimit = dmaplimit;
        if let Some(layout) = layout {
            machine.km_low = layout.km_low;
            machine.dmap = layout.dmap;
            machine.view = MachineView::new(memory, located.pml4, layout.pml5);
        }
        Ok(machine)
    }

    pub(super) fn variables<'a>(&'a self, elf: &'a KernelElf) -> Variables<'a> {
        Variables {
            elf,
            memory: &self.view,
        }
    }
}

/// `kva_layout`: the address space of a kernel that lays itself out at run time.
///
/// 15 on; FreeBSD `sys/amd64/include/pmap.h`: fifteen words, `dmap_low` the third, `dmap_high` the
/// fourth, `km_low` the seventh.
struct KvaLayout {
    km_low: u64,
    dmap: Range<u64>,
    pml5: Option<u64>,
}

impl KvaLayout {
    fn read(variables: Variables<'_>, at: u64) -> Result<Self, TakeError> {
        let mut bytes = [0; 56];
        variables.bytes("kva_layout", at, &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        let dmap = word(2)..word(3);
        let la57 = dmap.start == amd64::DMAP_MIN_ADDRESS_LA57;
        Ok(Self {
            km_low: word(6),
            dmap,
            pml5: if la57 {
                Some(variables.u64("KPML5phys")?)
            } else {
                None
            },
        })
    }
}
