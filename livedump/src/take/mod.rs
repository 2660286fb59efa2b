//! A minidump from outside of the kernel: what the kernel of a machine would have written, made
//! from the machine's memory and the kernel's ELF file.
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ locate     where the kernel lies; its root table: by its port
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

mod bits;
mod dumpable;
pub mod error;
pub mod facts;
mod kernel;
pub mod live;
pub mod locate;
pub mod machine;
mod marks;
mod msgbuf;
pub mod paging;
mod port;
pub mod run;
pub mod running;
pub mod view;
mod walk;

use std::io;
use std::sync::Arc;

use minidump::{KernelDumpHeader, KernelElf, MinidumpHeader, PageSource, Payload, PhysAddr, Plan};

pub use error::TakeError;
pub use facts::Facts;
pub use locate::Located;
pub use machine::Machine;
pub use run::{Done, RunOptions, run};
pub use running::running;
pub use view::MachineView;

use crate::PhysMemory;
use dumpable::{Dumpable, Model};
use kernel::Variables;
use marks::Marks;
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

    /// The dump's bytes.
    pub fn payload(&self) -> Payload {
        let pages = Pages(self.machine.view.memory().clone());
        self.plan.clone().payload(Arc::new(pages))
    }

    /// The dump's bytes, when nothing else is wanted any more.
    pub fn into_payload(self) -> Payload {
        let pages = Pages(self.machine.view.memory().clone());
        self.plan.payload(Arc::new(pages))
    }
}

/// A machine's memory as the pages of a dump.
struct Pages(Arc<dyn PhysMemory>);

impl PageSource for Pages {
    fn read_pages(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        self.0.read(at.0, buf)
    }

    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        self.0.known_zero(at.0, len)
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
    let (port, page_size) = (machine.port, machine.page_size());

    let top = memory.ranges().last().map_or(0, |range| range.end);
    let follows = bits::follow_dump_avail(elf);
    let paddr_size = if follows {
        8
    } else {
        port.old_paddr_size(machine.located.paging)
    };
    let avail = bits::dump_avail(variables, top, paddr_size, page_size)?;
    let mut marks = bits::vm_page_dump(variables, &avail, page_size)?;
    let version = version(&machine, options, follows, facts.osreldate)?;
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
    let mut dumpable = Dumpable::new(variables, osreldate, model, in_dmap.clone(), &mut notes);
    let walked = walked(&machine, variables, &mut dumpable, &mut marks)?;
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
    })
}

/// The version of the dump: the one that is asked for, or the kernel's own.
fn version(
    machine: &Machine,
    options: &PlanOptions,
    follows: bool,
    osreldate: u32,
) -> Result<u32, TakeError> {
    let (port, paging) = (machine.port, machine.located.paging);
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
    variables: Variables<'_>,
    dumpable: &mut Dumpable<'_>,
    marks: &mut Marks,
) -> Result<Walked, TakeError> {
    let port = machine.port;
    let kva = machine.kernbase..port.kva_end(variables)?;
    let limit = port.kva_limit();
    let Some(root) = machine.view.root_of(kva.start).filter(|_| kva.end <= limit) else {
        return Err(TakeError::Contradiction {
            what: "kernel_vm_end",
            found: format!("{:#x}", kva.end),
            expected: format!("{:#x} to {limit:#x}", kva.start),
        });
    };
    let mut walk = Walk::new(&machine.view, root, dumpable, marks);
    port.walk(&mut walk, kva)?;
    Ok(walk.done())
}
