//! A machine under construction: its memory, its kernel and what is already in place.

use std::collections::BTreeMap;
use std::ops::Range;

use livecore_minidump::{PhysAddr, VirtAddr};

use super::description::Description;
use super::error::Error;
use super::frames::Frames;
use super::kernel::Kernel;
use super::layout::Layout;
use super::processor::{Processor, Space};
use super::store::Store;
use super::tables::Tables;
use super::truth::{Mapping, Prot};

/// The state shared by all parts of the builder.
pub(crate) struct Builder<'a> {
    pub(crate) description: &'a Description,
    pub(crate) processor: &'static dyn Processor,
    pub(crate) layout: Layout,
    pub(crate) space: Space,
    pub(crate) kernel: Kernel,
    pub(crate) store: Store,
    pub(crate) frames: Frames,
    pub(crate) tables: Tables,
    /// RAM.
    pub(crate) ram: Vec<Range<u64>>,
    /// The memory that the kernel knows.
    pub(crate) dump_avail: Vec<Range<u64>>,
    /// The kernel map by virtual address.
    pub(crate) mappings: BTreeMap<VirtAddr, Mapping>,
    pub(crate) direct: Vec<Mapping>,
    /// Next free kernel virtual address.
    pub(crate) kva: u64,
    /// Physical ranges whose bits are set in `vm_page_dump`.
    pub(crate) bits: Vec<Range<u64>>,
    /// Physical ranges with PG_NODUMP.
    pub(crate) nodump: Vec<Range<u64>>,
    /// Physical ranges of free pages.
    pub(crate) free: Vec<Range<u64>>,
    /// The unused rest of the last slab, as physical addresses.
    slab: Range<u64>,
    /// Root tables of user processes.
    pub(crate) user_roots: Vec<u64>,
    pub(crate) notes: Vec<String>,
}

impl<'a> Builder<'a> {
    #[allow(
        clippy::too_many_arguments,
        reason = "each comes from another step of the build"
    )]
    pub(crate) fn new(
        description: &'a Description,
        processor: &'static dyn Processor,
        layout: Layout,
        space: Space,
        kernel: Kernel,
        mut store: Store,
        mut frames: Frames,
        ram: Vec<Range<u64>>,
        dump_avail: Vec<Range<u64>>,
    ) -> Result<Self, Error> {
        let root = match processor.root(&kernel, description.load().0)? {
            Some(root) => root,
            None => frames.one("the root page table", space.page_size)?,
        };
        let tables = Tables::new(processor.format(), &mut store, root);
        let kva = space.vm_min;
        Ok(Self {
            description,
            processor,
            layout,
            space,
            kernel,
            store,
            frames,
            tables,
            ram,
            dump_avail,
            mappings: BTreeMap::new(),
            direct: Vec::new(),
            kva,
            bits: Vec::new(),
            nodump: Vec::new(),
            free: Vec::new(),
            slab: 0..0,
            user_roots: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Returns the direct-map address of a physical address.
    pub(crate) fn dmap(&self, pa: u64) -> u64 {
        self.space.dmap.start + (pa - self.space.dmap_phys)
    }

    /// Returns the physical address of a kernel or direct-map address that the builder has mapped.
    pub(crate) fn phys(&self, va: u64) -> Result<u64, Error> {
        if let Some((_, map)) = self.mappings.range(..=VirtAddr(va)).next_back()
            && va - map.va.0 < map.len
        {
            return Ok(map.pa.0 + (va - map.va.0));
        }
        if self.space.dmap.contains(&va) {
            return Ok(va - self.space.dmap.start + self.space.dmap_phys);
        }
        Err(Error::Kernel(format!("{va:#x} is not mapped")))
    }

    /// Writes bytes at a mapped virtual address.
    pub(crate) fn poke(&mut self, va: u64, bytes: &[u8]) -> Result<(), Error> {
        let page = self.space.page_size;
        let mut done = 0;
        while done < bytes.len() {
            let at = va + done as u64;
            let n = ((page - at % page) as usize).min(bytes.len() - done);
            let pa = self.phys(at)?;
            self.store.write(pa, &bytes[done..done + n]);
            done += n;
        }
        Ok(())
    }

    pub(crate) fn poke_u64(&mut self, va: u64, value: u64) -> Result<(), Error> {
        self.poke(va, &value.to_le_bytes())
    }

    /// Writes a `long` or a pointer.
    pub(crate) fn poke_word(&mut self, va: u64, value: u64) -> Result<(), Error> {
        let len = self.layout.word as usize;
        self.poke(va, &value.to_le_bytes()[..len])
    }

    /// Writes a variable that is a `long` or a pointer.
    pub(crate) fn set_word(&mut self, name: &str, value: u64) -> Result<(), Error> {
        let len = self.layout.word as usize;
        self.set(name, &value.to_le_bytes()[..len])
    }

    /// Writes the fields of the `struct pmap` at `va` that locate its tables.
    pub(crate) fn pmap(&mut self, va: u64, root: u64) -> Result<(), Error> {
        let (release, direct) = (self.description.release(), self.dmap(root));
        for (offset, word) in self.processor.pmap(release, root, direct) {
            self.poke_word(va + offset, word)?;
        }
        Ok(())
    }

    pub(crate) fn poke_u32(&mut self, va: u64, value: u32) -> Result<(), Error> {
        self.poke(va, &value.to_le_bytes())
    }

    /// Writes a kernel variable.
    pub(crate) fn set(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let symbol = *self
            .kernel
            .symbols
            .get(name)
            .ok_or_else(|| Error::Kernel(format!("no variable `{name}`")))?;
        if symbol.absolute || (bytes.len() as u64) > symbol.size {
            return Err(Error::Kernel(format!(
                "`{name}` has {} bytes, expected {} or more",
                symbol.size,
                bytes.len()
            )));
        }
        self.poke(symbol.value, bytes)
    }

    pub(crate) fn set_u64(&mut self, name: &str, value: u64) -> Result<(), Error> {
        self.set(name, &value.to_le_bytes())
    }

    pub(crate) fn set_u32(&mut self, name: &str, value: u32) -> Result<(), Error> {
        self.set(name, &value.to_le_bytes())
    }

    /// Records a mapping of the kernel map.
    fn record(&mut self, map: Mapping) {
        if let Some((_, last)) = self.mappings.range_mut(..map.va).next_back()
            && last.va.checked_add(last.len) == Some(map.va)
            && last.pa.checked_add(last.len) == Some(map.pa)
            && last.leaf == map.leaf
            && last.prot == map.prot
        {
            last.len += map.len;
            return;
        }
        self.mappings.insert(map.va, map);
    }

    /// Maps `len` bytes into the kernel map with leaves of `level`.
    pub(crate) fn map(
        &mut self,
        level: usize,
        va: u64,
        pa: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), Error> {
        let leaf = 1u64 << self.processor.format().shifts()[level];
        for offset in (0..len).step_by(leaf as usize) {
            self.tables.map(
                &mut self.store,
                &mut self.frames,
                level,
                va + offset,
                pa + offset,
                prot,
            )?;
        }
        self.record(Mapping {
            va: VirtAddr(va),
            pa: PhysAddr(pa),
            len,
            leaf,
            prot,
        });
        Ok(())
    }

    /// Maps part of the direct map with leaves of `level`.
    pub(crate) fn map_directly(&mut self, level: usize, pa: u64, len: u64) -> Result<(), Error> {
        let leaf = 1u64 << self.processor.format().shifts()[level];
        let va = self.dmap(pa);
        for offset in (0..len).step_by(leaf as usize) {
            self.tables.map(
                &mut self.store,
                &mut self.frames,
                level,
                va + offset,
                pa + offset,
                Prot::RW,
            )?;
        }
        match self.direct.last_mut() {
            Some(last) if last.leaf == leaf && last.va.0 + last.len == va => last.len += len,
            _ => self.direct.push(Mapping {
                va: VirtAddr(va),
                pa: PhysAddr(pa),
                len,
                leaf,
                prot: Prot::RW,
            }),
        }
        Ok(())
    }

    /// Maps all RAM into the direct map with the largest leaves of `levels` (largest first) that
    /// fit.
    pub(crate) fn map_ram_directly(&mut self, levels: &[usize]) -> Result<(), Error> {
        for range in self.ram.clone() {
            let mut at = range.start;
            while at < range.end {
                let fits = levels.iter().find_map(|&level| {
                    let leaf = 1u64 << self.processor.format().shifts()[level];
                    let count = (range.end - at) / leaf;
                    (at.is_multiple_of(leaf) && count > 0).then_some((level, leaf))
                });
                let Some((level, leaf)) = fits else {
                    break;
                };
                self.map_directly(level, at, leaf)?;
                at += leaf;
            }
        }
        Ok(())
    }

    /// Writes the kernel image to the memory that it is mapped to.
    pub(crate) fn load_kernel(&mut self) -> Result<(), Error> {
        let loads = std::mem::take(&mut self.kernel.loads);
        for (va, bytes) in &loads {
            self.poke(*va, bytes)?;
        }
        self.kernel.loads = loads;
        Ok(())
    }

    /// The level of single pages.
    pub(crate) fn bottom(&self) -> usize {
        self.processor.format().shifts().len() - 1
    }

    /// Maps `pages` pages at the next free kernel addresses, followed by one unmapped page.
    pub(crate) fn allocate(&mut self, what: &'static str, pages: u64) -> Result<u64, Error> {
        let page = self.space.page_size;
        let va = self.kva;
        let mut done = 0;
        while done < pages {
            let run = self.frames.run(what, pages - done, page)?;
            let n = (run.end - run.start) / page;
            let bottom = self.bottom();
            self.map(bottom, va + done * page, run.start, n * page, Prot::RW)?;
            done += n;
        }
        self.kva = va + (pages + 1) * page;
        Ok(va)
    }

    /// Allocates one small structure in memory of the direct map, and sets its bit.
    pub(crate) fn slab(&mut self, size: u64) -> Result<u64, Error> {
        let size = size.next_multiple_of(64);
        if self.space.dmap.is_empty() {
            // Without a direct map the memory is mapped: the range is of virtual addresses.
            if self.slab.end - self.slab.start < size {
                let pages = size.div_ceil(self.space.page_size);
                let va = self.allocate("kernel structures", pages)?;
                self.slab = va..va + pages * self.space.page_size;
            }
            let at = self.slab.start;
            self.slab.start += size;
            return Ok(at);
        }
        if self.slab.end - self.slab.start < size {
            let pages = size.div_ceil(self.space.page_size);
            let run = if pages == 1 {
                self.frames
                    .run("kernel structures", 1, self.space.page_size)?
            } else {
                let len = pages * self.space.page_size;
                let at = self
                    .frames
                    .block("kernel structures", len, self.space.page_size)?;
                at..at + len
            };
            self.bits.push(run.clone());
            self.slab = run;
        }
        let at = self.slab.start;
        self.slab.start += size;
        self.store.page(at / 4096);
        Ok(self.dmap(at))
    }
}
