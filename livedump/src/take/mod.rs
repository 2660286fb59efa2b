//! A minidump from outside of the kernel: what the kernel of a machine would have written, made
//! from the machine's memory and the kernel's ELF file.
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ Machine    where the kernel lies, and how it maps: `livecore_kernel::locate`
//!     │ facts      version, host name, panic, time
//!     │ walk       the kernel map: every page it reaches, the page-table section
//!     │ dumpable   without what the kernel would not dump
//!     ▼
//!  Taken: a Plan, whose pages are read when they are written
//! ```
//!
//! The steps are those of `minidumpsys` (FreeBSD `sys/*/*/minidump_machdep.c`); what differs from
//! architecture to architecture is one file each in `port`. Memory is one bit per page of `dump_avail`, and the page tables that are not empty. Nothing is
//! consistent: the machine runs on while its tables are read, and a page is what it is when it is
//! written.

mod bank;
mod bits;
mod cpus;
mod dumpable;
pub mod error;
pub mod facts;
pub mod guest;
pub mod hole;
pub mod live;
mod marks;
mod msgbuf;
pub mod observer;
mod pages;
mod patch;
mod port;
mod processor;
pub mod run;
pub mod running;
mod walk;

use std::io;
use std::sync::Arc;

use livecore_compress::Progress;
use livecore_kernel::locate::{Machine, Variables, bitmap_follows_dump_avail};
use livecore_minidump::provenance::{Cpu, Pause};
use livecore_minidump::{KernelDumpHeader, KernelElf, MinidumpHeader, Payload, Plan, Provenance};

pub use error::TakeError;
pub use facts::Facts;
pub use guest::{GuestSource, Pausing};
pub use hole::settle;
pub use observer::{NoObserver, Observer, Stage};
pub use run::{Done, Output, RunOptions, Source, run};
pub use running::running;

use crate::image::cpu::CpuState;
use crate::torn::Watch;
use dumpable::{Dumpable, Model};
use livecore_minidump::PhysMemory;
use marks::Marks;
use pages::Pages;
use patch::Patches;
use port::Port;
use walk::{Walk, Walked};

/// How a dump is planned.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The minidump's version. The version that the kernel itself writes if `None`.
    pub version: Option<u32>,
}

/// A dump that is planned and can be written.
pub struct Taken {
    /// Every section but the pages.
    pub plan: Plan,
    /// What the kernel says of itself.
    pub facts: Facts,
    /// The machine.
    pub machine: Machine,
    /// What a person should know: what could not be found, or was left out.
    pub notes: Vec<String>,
    edits: Edits,
    /// Where pages are read, if not in the machine's memory.
    copy: Option<Arc<dyn PhysMemory>>,
}

/// What is done to a dump's pages on their way, beside reading them.
#[derive(Clone, Default)]
struct Edits {
    patches: Patches,
    cpus: Vec<Cpu>,
    watch: Option<Arc<Watch>>,
    pause: Option<Pause>,
}

/// What a dump has to say of its making, once it has been written.
#[derive(Clone)]
pub struct Told(Edits);

impl Told {
    /// What has been seen and done up to now.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            torn: self.0.watch.as_ref().map(|watch| watch.report()),
            pause: self.0.pause,
            cpus: self.0.cpus.clone(),
        }
    }
}

impl Taken {
    /// The kerneldumpheader of the uncompressed dump.
    pub fn header(&self) -> KernelDumpHeader {
        let length = self.plan.layout().end();
        KernelDumpHeader {
            dumplength: length,
            dumpextent: length,
            dumptime: self.facts.time,
            blocksize: self.plan.header().page_size() as u32,
            hostname: self.facts.hostname.clone(),
            versionstring: self.facts.version.clone(),
            panicstring: self.facts.panic.clone(),
            ..KernelDumpHeader::from_payload(self.plan.header())
        }
    }

    /// Puts the registers of processors where debuggers look for them: `dumppcb` and `dumptid` for
    /// the thread on CPU `chosen` (the image's number of it; by default the one in the kernel's
    /// debugger, else the only one that is not stopped, else the first), `stoppcbs` and `stopped_cpus`
    /// for the others. Memory is not changed; the dump's copies of those pages are.
    pub fn put_cpus(
        &mut self,
        elf: &KernelElf,
        cpus: &[CpuState],
        chosen: Option<u32>,
    ) -> Result<(), TakeError> {
        let placed = cpus::place(&self.machine.view, elf, cpus, chosen)?;
        self.edits.patches = placed.patches;
        self.edits.cpus = placed.cpus;
        self.notes.extend(placed.notes);
        Ok(())
    }

    /// Has the dump's pages read from `copy`, which holds what the machine's memory held when the
    /// dump was planned.
    pub fn read_from(&mut self, copy: Arc<dyn PhysMemory>) {
        self.copy = Some(copy);
    }

    /// Has the dump tell of the pause that its memory is of.
    pub fn paused(&mut self, pause: Pause) {
        self.edits.pause = Some(pause);
    }

    /// Watches memory from now on, and reads it again up to `rounds` times until it no longer
    /// changes: [`crate::torn`]. `progress` hears of bytes read, and may end it.
    pub fn watch(&mut self, rounds: u32, progress: &dyn Progress) -> Result<(), TakeError> {
        let watch =
            Watch::new(self.memory().clone(), &self.plan, rounds, progress).map_err(|e| match e
                .kind()
            {
                io::ErrorKind::Interrupted => TakeError::Cancelled,
                _ => TakeError::Minidump(livecore_minidump::Error::io("memory", e)),
            })?;
        self.edits.watch = Some(Arc::new(watch));
        Ok(())
    }

    /// Who can say, when the dump has been written, how it was made.
    pub fn told(&self) -> Told {
        Told(self.edits.clone())
    }

    /// Where pages are read.
    fn memory(&self) -> &Arc<dyn PhysMemory> {
        self.copy.as_ref().unwrap_or(self.machine.view.memory())
    }

    fn pages(&self) -> Arc<Pages> {
        Arc::new(Pages {
            memory: self.memory().clone(),
            page: self.plan.layout().page_size(),
            patches: self.edits.patches.clone(),
            watch: self.edits.watch.clone(),
        })
    }

    /// The dump's bytes.
    pub fn payload(&self) -> Payload {
        self.plan.clone().payload(self.pages())
    }

    /// The dump's bytes, when nothing else is wanted any more.
    pub fn into_payload(self) -> Payload {
        let pages = self.pages();
        self.plan.payload(pages)
    }
}

/// Plans a dump of the machine with this memory, which runs this kernel.
pub fn plan(
    memory: Arc<dyn PhysMemory>,
    elf: &KernelElf,
    options: &PlanOptions,
) -> Result<Taken, TakeError> {
    plan_machine(Machine::find(memory, elf)?, elf, options)
}

/// Plans a dump of a machine whose kernel has been found.
pub fn plan_machine(
    machine: Machine,
    elf: &KernelElf,
    options: &PlanOptions,
) -> Result<Taken, TakeError> {
    let mut notes = Vec::new();
    let memory = machine.view.memory().clone();
    let variables = machine.variables(elf);
    let facts = Facts::read(variables, &mut notes)?;
    let (port, page_size) = (port::of(machine.arch)?, machine.page_size());

    let top = memory.ranges().last().map_or(0, |range| range.end);
    let follows = bitmap_follows_dump_avail(elf);
    let paddr_sizes = if follows {
        &[8][..]
    } else {
        port.old_paddr_sizes(machine.located.paging)
    };
    let (avail, paddr_size) = bits::dump_avail(variables, top, paddr_sizes, page_size)?;
    let mut marks = bits::vm_page_dump(variables, &avail, page_size)?;
    let version = version(&machine, port, options, follows, facts.osreldate)?;
    if (version >= port.arch().fields().dumpavail_since) != follows {
        let ranges = if follows {
            bits::by_number(&avail, page_size)
        } else {
            avail.clone()
        };
        marks = bits::reindex(marks, ranges, page_size)?;
    }

    let in_dmap = &machine.phys_in_dmap;
    let model = Model {
        is_64: elf.is_64(),
        paddr: paddr_size,
    };
    let osreldate = facts.osreldate;
    let mut dumpable = Dumpable::new(variables, in_dmap.clone(), model);
    if port.asks_pages(follows) {
        dumpable.find_pages(variables, osreldate, &mut notes);
    }
    let asks_tables = follows && port.asks_tables();
    let walked = walked(
        &machine,
        port,
        variables,
        &mut dumpable,
        &mut marks,
        asks_tables,
    )?;
    bits::filter(&mut marks, &avail, in_dmap, &mut dumpable);
    let before = marks.count();
    bits::without_holes(&mut marks, memory.ranges());
    for (count, what) in [
        (
            before - marks.count(),
            "pages are outside of the memory and left out",
        ),
        (
            walked.lost_tables,
            "page tables are outside of the memory and count as empty",
        ),
        (
            dumpable.unread,
            "pages have no readable struct vm_page and count as dumpable",
        ),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }

    let ring = msgbuf::read(variables, page_size, &mut notes)?;
    let pmapsize = walked.pmap_pages.saturating_mul(page_size);
    let header = MinidumpHeader {
        msgbufsize: ring.size,
        pmapsize: u32::try_from(pmapsize).map_err(|_| TakeError::Contradiction {
            what: "kernel_vm_end",
            found: format!("a page-table section of {pmapsize:#x} bytes"),
            expected: "one below 4 GiB".into(),
        })?,
        ..port.header(&machine, version)
    };
    let ranges = marks.ranges().clone();
    let plan = Plan::new(
        header,
        ring.bytes,
        ranges,
        marks.into_bitmap()?,
        walked.pmap,
    )?;
    Ok(Taken {
        plan,
        facts,
        machine,
        notes,
        edits: Edits::default(),
        copy: None,
    })
}

/// The version of the dump: the one that is asked for, or the kernel's own.
fn version(
    machine: &Machine,
    port: &dyn Port,
    options: &PlanOptions,
    follows: bool,
    osreldate: u32,
) -> Result<u32, TakeError> {
    let paging = machine.located.paging;
    let known = port.versions(paging);
    let own = if follows {
        port.newest(paging, osreldate)
    } else {
        port.arch().fields().dumpavail_since - 1
    };
    match options.version.unwrap_or(own) {
        version if known.contains(&version) => Ok(version),
        version => Err(TakeError::Unsupported {
            what: format!(
                "{} minidump of version {version}; {} to {} are written of this kernel",
                port.arch(),
                known.start(),
                known.end()
            ),
        }),
    }
}

/// Walks the kernel map: adds what it reaches to `marks`.
fn walked(
    machine: &Machine,
    port: &dyn Port,
    variables: Variables<'_>,
    dumpable: &mut Dumpable<'_>,
    marks: &mut Marks,
    asks_tables: bool,
) -> Result<Walked, TakeError> {
    let (kva, root) = machine.kernel_map(variables.elf)?;
    let mut walk = Walk::new(&machine.view, root, dumpable, marks);
    if !asks_tables {
        walk.write_all_tables();
    }
    let window = variables.find("crashdumpmap");
    walk.set_window(window.and_then(|at| variables.long_at("crashdumpmap", at).ok()));
    port.walk(&mut walk, kva)?;
    Ok(walk.done())
}
