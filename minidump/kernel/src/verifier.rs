//! Implements the verifier's interfaces: [`KernelFacts`] with a [`KernelElf`], [`OneTimeKeys`] with a
//! private key. Names the addresses in a comparison.

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_defs::vm_page::{ILP32, ILP32_NO_PAE, LP64};
use livecore_minidump::encryption::PrivateKey;
use livecore_minidump::{
    DumpMemory, ElfMachine, Error, KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr,
};
use livecore_verify::compare::PageDifference;
use livecore_verify::{
    DumpedMemory, KernelFacts, NoDump, OneTimeKeys, SleepingThread, Symbol, Threads,
};

use crate::kernel::Kernel;
use crate::thread::Context;
use crate::types::{STRUCTURES, Types};
use crate::vm_pages::VmPages;

/// The number of pages by which a layout of `struct vm_page` is checked, in each segment.
const SAMPLES: u64 = 16;

/// A kernel's ELF file as the verifier's [`KernelFacts`].
#[derive(Debug)]
pub struct ElfFacts<'a>(pub &'a KernelElf);

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

/// The private key, as the verifier uses it.
#[derive(Debug)]
pub struct Keys(pub Arc<PrivateKey>);

impl OneTimeKeys for Keys {
    fn decrypt(&self, encrypted: &[u8]) -> Result<[u8; 32], String> {
        match self.0.one_time_key(encrypted) {
            Ok(key) => Ok(*key),
            Err(Error::WrongKey { why }) => Err(why),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Adds to each page its address in the direct map and the kernel symbol it contains.
pub fn explain(pages: &mut [PageDifference], memory: &dyn DumpMemory, elf: &KernelElf) {
    let mut named: Vec<(u64, &str)> = elf
        .symbols()
        .filter(|(name, symbol)| !symbol.absolute && !name.is_empty())
        .map(|(name, symbol)| (symbol.value, name))
        .collect();
    named.sort_unstable();
    for page in &mut *pages {
        let offset = page.offset as u64;
        let direct = memory.direct_map_of(page.pa);
        page.direct = page.direct.or(direct.map(|at| at.wrapping_add(offset)));
    }
    let (Some(first), Some(last)) = (named.first(), named.last()) else {
        return;
    };
    let image = first.0 / memory.page_size() * memory.page_size()..=last.0;
    // A page keeps no symbol if the page tables cannot be read.
    let _ = memory.walk(&mut |mapping| {
        for page in pages.iter_mut().filter(|page| page.symbol.is_none()) {
            let skip = page.pa.offset_from(mapping.pa);
            let Some(skip) = skip.filter(|skip| *skip < mapping.len) else {
                continue;
            };
            let at = mapping
                .va
                .0
                .wrapping_add(skip)
                .wrapping_add(page.offset as u64);
            if !image.contains(&at) {
                continue;
            }
            let behind = named.partition_point(|(value, _)| *value <= at);
            page.symbol = Some(match behind.checked_sub(1).and_then(|i| named.get(i)) {
                Some((value, name)) if *value == at => format!("{at:#x} {name}"),
                Some((value, name)) => format!("{at:#x} {name}+{:#x}", at - value),
                None => format!("{at:#x}"),
            });
        }
        ControlFlow::Continue(())
    });
}
