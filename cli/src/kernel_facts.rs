//! Implements [`KernelFacts`], the verifier's view of a kernel, with [`KernelElf`] and
//! `livecore-kernel`.

use livecore_defs::vm_page::{ILP32, ILP32_NO_PAE, LP64};
use livecore_kernel::{Context, Kernel, STRUCTURES, Types, VmPages};
use livecore_minidump::{ElfMachine, KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_verify::{DumpedMemory, KernelFacts, NoDump, SleepingThread, Symbol, Threads};

/// The number of pages by which a layout of `struct vm_page` is checked, in each segment.
const SAMPLES: u64 = 16;

/// A kernel's ELF file as the verifier's [`KernelFacts`].
pub(crate) struct ElfFacts<'a>(pub &'a KernelElf);

impl KernelFacts for ElfFacts<'_> {
    fn machine(&self) -> ElfMachine {
        self.0.machine()
    }

    fn is_64(&self) -> bool {
        self.0.is_64()
    }

    fn symbol(&self, name: &str) -> Option<Symbol> {
        let found = self.0.symbol(name).filter(|s| !s.absolute)?;
        Some(Symbol {
            address: VirtAddr(found.value),
            size: found.size,
        })
    }

    fn symbols(&self) -> Vec<(VirtAddr, &str)> {
        let found = self.0.symbols().filter(|(_, symbol)| !symbol.absolute);
        found
            .map(|(name, symbol)| (VirtAddr(symbol.value), name))
            .collect()
    }

    fn contents(&self, at: VirtAddr, len: usize) -> Option<Vec<u8>> {
        let contents = self.0.bytes_at(at, len)?;
        contents.in_file.then_some(contents.bytes)
    }

    fn nodump<'m>(&'m self, memory: &'m dyn DumpedMemory) -> Option<NoDump<'m>> {
        let kernel = Kernel::new(Memory(memory), self.0).displaced(memory.displacement());
        let osreldate = kernel.variable("osreldate", 4).unwrap_or(0);
        let models = match self.0.is_64() {
            true => &[LP64][..],
            false => &[ILP32, ILP32_NO_PAE],
        };
        let in_use = |pages| memory.sample(pages, SAMPLES);
        let pages = models.iter().find_map(|model| {
            // Four bytes were read.
            VmPages::find(&kernel, *model, osreldate as u32, &in_use).ok()
        })?;
        Some(Box::new(move |pa| {
            pages.is_nodump(&Memory(memory), pa) == Some(true)
        }))
    }

    fn threads(&self, memory: &dyn DumpedMemory) -> Option<Threads> {
        // Only type information contains the bounds of stacks.
        let types = Types::read(self.0, &STRUCTURES);
        let kernel = Kernel::new(Memory(memory), self.0)
            .displaced(memory.displacement())
            .with_types(&types);
        let found = kernel.processes().ok()?;
        // Releases before 13 have another list of zombies.
        let missing = found.missing.iter().filter(|m| m.symbol != "zombproc");
        let problems = missing
            .map(ToString::to_string)
            .chain(found.problems.iter().cloned())
            .collect();
        let sleeping = found.threads().filter_map(|thread| {
            if thread.context != Context::SwitchedOut {
                return None;
            }
            let registers = kernel.registers(thread).ok()?;
            Some(SleepingThread {
                name: format!("thread {} {}", thread.tid, thread.title()),
                sp: registers.sp()?,
                fp: registers.fp()?,
                stack: thread.kstack.clone(),
            })
        });
        Some(Threads {
            problems,
            sleeping: sleeping.collect(),
        })
    }
}

/// The verifier's view of the dump's memory, as [`KernelMemory`].
struct Memory<'a>(&'a dyn DumpedMemory);

impl KernelMemory for Memory<'_> {
    fn page_size(&self) -> u64 {
        self.0.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let read = self.0.read_phys(at, buf);
        read.map_err(|at| ReadError::Hole { at })
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        let found = self.0.translate(at);
        found.ok_or(ReadError::NotMapped {
            at,
            why: "no page table entry maps it",
        })
    }
}
