//! Implements [`KernelFacts`], the verifier's view of a kernel, with [`KernelElf`] and
//! `livecore-kernel`.

use livecore_kernel::{Context, Kernel, STRUCTURES, Types};
use livecore_minidump::{ElfMachine, KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_verify::{DumpedMemory, KernelFacts, SleepingThread, Symbol, Threads};

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
