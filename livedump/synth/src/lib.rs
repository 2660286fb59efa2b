//! Emulated machines: the physical memory and the kernel file of a FreeBSD machine that never ran,
//! made from a description.
//!
//! Readers of FreeBSD dumps cannot distinguish a machine from a real one: it has page tables, a
//! direct map, a kernel with symbols, `dump_avail`, `vm_page_dump`, a message buffer and processes
//! with stacks. The same description produces the same bytes. Pages are made when they are read:
//! memory use depends on the size of the kernel's structures, not on the size of RAM.
//!
//! ```text
//! Description::parse(text) -> build -> Machine { memory, kernel, truth } -> write_out
//! ```
//!
//! [`Truth`] lists what the builder put where, for tests to compare with. `docs/machines.md`
//! documents the description.

mod architecture;
mod boot;
mod builder;
mod cfi;
mod chains;
mod code;
mod compiled;
mod content;
mod counters;
mod ctf;
mod description;
mod elf;
mod error;
mod frames;
mod i386_link;
mod intervals;
mod kernel;
mod layout;
mod locks;
mod modules;
mod msgbuf;
mod network;
mod port;
mod processor;
mod regions;
mod rng;
mod rows;
mod source;
mod stack;
mod store;
mod structures;
mod tables;
mod threads;
mod truth;
mod users;
mod variables;
mod vm;
mod vm_page;
mod write_out;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

pub use architecture::Architecture;
pub use description::{
    Bytes, Content, Description, Doing, Giant, Kernel, KernelKind, Kernphys, Lock, LockClass,
    MAX_SIZE, MIN_SIZE, Memory, Mix, Msgbuf, Process, State, Stoppcbs, Thread,
};
pub use error::Error;
pub use layout::Release;
pub use truth::SectionRow;
pub use truth::{
    Context, Cpu, Dumped, Frame, Lock as LockTruth, Mapping, MessageBuffer, Module,
    Process as ProcessTruth, Prot, Symbol, Thread as ThreadTruth, Truth, UserSpace, Why,
};
pub use write_out::write_out;

use builder::Builder;
use frames::Frames;
use store::Store;

use livecore_minidump::{PhysAddr, PhysMemory, VirtAddr};

/// An emulated machine.
pub struct Machine {
    memory: Arc<store::Memory>,
    kernel: Vec<u8>,
    truth: Truth,
}

impl Machine {
    /// Parses a description and builds its machine.
    ///
    /// # Errors
    ///
    /// Fails if the text is not a description, or describes an impossible machine.
    pub fn parse(text: &str) -> Result<Self, Error> {
        build(&Description::parse(text)?)
    }

    /// Returns its physical memory.
    pub fn memory(&self) -> Arc<dyn PhysMemory> {
        self.memory.clone()
    }

    /// Returns its kernel, an ELF file.
    pub fn kernel(&self) -> &[u8] {
        &self.kernel
    }

    /// Returns the contents that readers should find.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }
}

/// Builds a machine.
///
/// # Errors
///
/// Fails if the description describes an impossible machine.
pub fn build(description: &Description) -> Result<Machine, Error> {
    let port = port::of(description);
    let processor: &dyn processor::Processor = port;
    let layout = processor.layout(description.release());
    let row = description.row();
    let ram = row.ram(description.memory.size.0, description.low());
    let space = processor.space(&ram, description);
    let firmware = processor.firmware(&ram);
    let dump_avail = vm::dump_avail(description, &ram, firmware, layout.dump_avail as usize)?;

    let version = variables::version(description, description.architecture.name());
    let mut wanted = variables::all(description, &layout, &version);
    wanted.extend(processor.variables(description));
    wanted.extend(locks::variables(description, &layout));
    wanted.extend(counters::variables(description, &layout));
    let load = description.load().0;
    let mut notes = Vec::new();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let parts = (&layout, &space, &*version, &*wanted);
    let kernel = kernel(description, &compiler, parts, &mut notes)?;

    // The memory that the kernel's start uses: low memory, and the image in whole large leaves.
    let len = kernel.end.next_multiple_of(4096) - kernel.start + processor.behind_image();
    let image = load..load + len.next_multiple_of(2 << 20);
    if !dump_avail
        .iter()
        .any(|r| r.start <= image.start && image.end <= r.end)
    {
        return Err(Error::value(
            "kernel.load",
            format!("{load:#x}"),
            format!(
                "an address with {:#x} bytes of dump_avail",
                image.end - image.start
            ),
        ));
    }
    let mut frames = Frames::new(&dump_avail, description.seed);
    frames.take(&(0..row.reserved));
    frames.take(&image);

    let mut b = Builder::new(
        description,
        processor,
        layout,
        space,
        kernel,
        Store::default(),
        frames,
        ram,
        dump_avail,
    )?;
    b.notes = notes;
    port.boot(&mut b)?;

    let place = msgbuf::place(&mut b)?;
    let bitmap = vm::place_bitmap(&mut b)?;
    let taken: [Range<u64>; 3] = [0..row.unpaged, image, place.pa..place.pa + place.len];
    vm::place_affinity(&mut b)?;
    let domains = vm::domains(&b);
    let segments = vm::segments(&b.dump_avail, &taken, &domains, b.space.page_size);
    let mut pages = vm::place_pages(&mut b, segments)?;
    regions::low_memory(&mut b);
    regions::large(&mut b)?;
    let demand = regions::demand(&b);
    b.frames.scatter(demand);

    let modules = modules::build(&mut b)?;
    let mut made = threads::build(&mut b)?;
    let locks = locks::build(&mut b, &mut made.threads)?;
    let sections = counters::build(&mut b, &made.processes, &made.threads)?;
    regions::build(&mut b)?;
    let panic = description.state.panic.clone();
    let msgbuf = msgbuf::build(&mut b, &place, &version, panic.as_deref())?;
    identify(&mut b, panic.as_deref())?;
    b.nodump.sort_by_key(|range| range.start);
    b.free.sort_by_key(|range| range.start);
    if let Some(pages) = &mut pages {
        pages.nodump = b.nodump.clone();
        pages.free = b.free.clone();
    }
    vm::write(&mut b, &bitmap)?;
    let kva_end = port.settle(&mut b)?;

    let dumped = vm::expected(&b, pages.as_ref());
    let truth = Truth {
        architecture: description.architecture,
        release: description.release(),
        page_size: b.space.page_size,
        vm_min_kernel_address: VirtAddr(b.space.vm_min),
        kernbase: VirtAddr(b.space.kernbase),
        dmap: VirtAddr(b.space.dmap.start)..VirtAddr(b.space.dmap.end),
        dmap_phys: PhysAddr(b.space.dmap_phys),
        dmaplimit: PhysAddr(b.space.dmaplimit),
        kernphys: PhysAddr(load),
        root: PhysAddr(b.tables.root),
        kernel_vm_end: VirtAddr(b.kva),
        kva_end: VirtAddr(kva_end),
        mappings: b.mappings.values().copied().collect(),
        direct: b.direct.clone(),
        page_tables: b
            .tables
            .made
            .iter()
            .map(|&(level, va, pa)| (level, VirtAddr(va), PhysAddr(pa)))
            .collect(),
        bits: vm::bits(&b),
        dump_avail: physical(&b.dump_avail),
        nodump: pages.as_ref().map_or(Vec::new(), |p| physical(&p.nodump)),
        free: pages.as_ref().map_or(Vec::new(), |p| physical(&p.free)),
        dumped,
        symbols: b.kernel.symbols.clone(),
        processes: made.processes,
        threads: made.threads,
        locks,
        sections,
        cpus: made.cpus,
        dumptid: made.dumptid,
        modules,
        msgbuf,
        version,
        ostype: "FreeBSD".into(),
        osrelease: description.release().osrelease().into(),
        osreldate: description.release().osreldate(),
        hostname: description.kernel.hostname.clone(),
        panic,
        time_second: description.state.time,
        time_uptime: description.state.uptime,
        physmem: physmem(&b),
        notes: std::mem::take(&mut b.notes),
    };
    Ok(Machine {
        memory: Arc::new(b.store.freeze(description.seed, b.ram, pages)),
        kernel: b.kernel.elf,
        truth,
    })
}

/// The inputs of a kernel in addition to its description: structures, addresses, version,
/// variables.
type Parts<'a> = (
    &'a layout::Layout,
    &'a processor::Space,
    &'a str,
    &'a [kernel::Variable],
);

/// Makes the kernel, of the kind in the description.
fn kernel(
    description: &Description,
    compiler: &str,
    (layout, space, version, wanted): Parts<'_>,
    notes: &mut Vec<String>,
) -> Result<kernel::Kernel, Error> {
    let auto = description.kernel.kind == KernelKind::Auto;
    if auto && description.architecture != Architecture::Amd64 {
        notes.push("the kernel has no debug information: only amd64 kernels are compiled".into());
    } else if matches!(
        description.kernel.kind,
        KernelKind::Compiled | KernelKind::Auto
    ) {
        match compiled::kernel(compiler, description, layout, space, version, wanted) {
            Err(Error::Compiler { compiler, why }) if auto => {
                notes.push(format!(
                    "the kernel has no debug information: `{compiler}` failed: {why}"
                ));
            }
            made => return made,
        }
    }
    let port = port::of(description);
    let made_of = (port.code(), port.names(description));
    let mut extra = Vec::new();
    if description.kernel.kind == KernelKind::Ctf {
        let types = ctf::section(&structures::all(description, layout));
        extra.push((".SUNW_ctf", types));
    }
    Ok(kernel::symbols(
        description,
        made_of,
        space.kernstart,
        wanted,
        extra,
    ))
}

/// Returns ranges of physical addresses with their type.
fn physical(ranges: &[Range<u64>]) -> Vec<Range<PhysAddr>> {
    ranges
        .iter()
        .map(|range| PhysAddr(range.start)..PhysAddr(range.end))
        .collect()
}

/// Returns the number of pages that the kernel may use.
fn physmem(b: &Builder<'_>) -> u64 {
    b.dump_avail
        .iter()
        .map(|range| (range.end - range.start) / b.space.page_size)
        .sum()
}

/// Writes names, times and the panic message.
fn identify(b: &mut Builder<'_>, panic: Option<&str>) -> Result<(), Error> {
    let prison = b.kernel.address("prison0")?;
    let l = b.layout.prison;
    let hostname = b.description.kernel.hostname.clone();
    b.poke(prison + u64::from(l.name), b"0")?;
    b.poke(prison + u64::from(l.path), b"/")?;
    b.poke(prison + u64::from(l.hostname), hostname.as_bytes())?;
    b.set_word("time_second", b.description.state.time)?;
    b.set_word("time_uptime", b.description.state.uptime)?;
    b.set_word("physmem", physmem(b))?;
    let top = b.ram.last().map_or(0, |range| range.end);
    b.set_word("Maxmem", top / b.space.page_size)?;
    if let Some(panic) = panic {
        let at = b.kernel.address("buf")?;
        b.poke(at, panic.as_bytes())?;
        b.set_word("panicstr", at)?;
    }
    Ok(())
}
