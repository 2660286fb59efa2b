//! A minidump from outside of the kernel: what the kernel of a machine would have written, made
//! from the machine's memory and the kernel's ELF file.
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ locate     where the kernel lies; its root table
//!     │ facts      version, host name, panic, time
//!     │ walk       the kernel map: every page it reaches, the page-table section
//!     │ dumpable   without what the kernel would not dump
//!     ▼
//!  Taken: a Plan, whose pages are read when they are written
//! ```
//!
//! The steps are those of `minidumpsys` (FreeBSD `sys/amd64/amd64/minidump_machdep.c`). Memory is
//! one bit per page of `dump_avail`, and the page tables that are not empty. Nothing is
//! consistent: the machine runs on while its tables are read, and a page is what it is when it is
//! written.

mod dumpable;
pub mod error;
pub mod facts;
mod kernel;
pub mod live;
pub mod locate;
pub mod machine;
mod marks;
mod msgbuf;
pub mod run;
pub mod running;
pub mod view;
mod walk;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use minidump::defs::amd64;
use minidump::defs::kerneldump::LIVE_BLOCKSIZE;
use minidump::{
    Arch, DumpAvail, KernelDumpHeader, KernelElf, MinidumpHeader, PageSource, Payload, PhysAddr,
    Plan,
};

pub use error::TakeError;
pub use facts::Facts;
pub use locate::Located;
pub use machine::Machine;
pub use run::{Done, RunOptions, run};
pub use running::running;
pub use view::MachineView;

use crate::PhysMemory;
use dumpable::Dumpable;
use kernel::{Variables, address};
use marks::Marks;

/// How a dump is planned.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The minidump's version: 2 or 3. The version that the kernel itself writes if `None`.
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
            blocksize: LIVE_BLOCKSIZE,
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

    let top = memory.ranges().last().map_or(0, |range| range.end);
    let avail = dump_avail(variables, top)?;
    let own = own_version(elf);
    let mut marks = vm_page_dump(variables, &avail, own)?;
    let version = options.version.unwrap_or(own);
    marks = match version {
        2 | 3 if version == own => marks,
        3 => reindex(marks, avail.clone())?,
        2 => {
            // 12.1's rule: a bit for every page up to the last of dump_avail, in whole pages.
            let page = amd64::PAGE_SIZE;
            let bytes = avail.end().div_ceil(page).div_ceil(8);
            let bits = bytes.next_multiple_of(page) * 8;
            reindex(marks, DumpAvail::from_zero(bits, page))?
        }
        _ => {
            return Err(TakeError::Unsupported {
                what: format!("amd64 minidump of version {version}; 2 and 3 are written"),
            });
        }
    };

    let dmaplimit = machine.dmaplimit;
    let mut dumpable = Dumpable::new(variables, facts.osreldate, dmaplimit, &mut notes);
    let kva = kva(variables, machine.km_low)?;
    let walked = walk::walk(&machine.view, kva, &mut dumpable, &mut marks)?;
    filter(&mut marks, &avail, dmaplimit, &mut dumpable);
    let before = marks.count();
    without_holes(&mut marks, memory.ranges());
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

    let ring = msgbuf::read(variables, &mut notes)?;
    let header = MinidumpHeader {
        arch: Arch::Amd64,
        version,
        msgbufsize: ring.size,
        // At most 2048 pages.
        pmapsize: (walked.pmap_pages * amd64::PAGE_SIZE) as u32,
        kernbase: machine.km_low,
        dmapbase: machine.dmap.start,
        dmapend: machine.dmap.end,
        ..MinidumpHeader::default()
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

/// The version of the minidumps that this kernel writes itself: its bitmap says so.
fn own_version(elf: &KernelElf) -> u32 {
    if elf.symbol("vm_page_dump_pages").is_some() {
        3
    } else {
        2
    }
}

/// The addresses that the page-table section covers: from the start of the kernel map to the end
/// of what is mapped at boot, or of what has been since, whichever is further.
fn kva(variables: Variables<'_>, start: u64) -> Result<Range<u64>, TakeError> {
    let nkpt = u64::from(variables.u32("nkpt")?);
    let boot = amd64::KERNBASE.saturating_add(nkpt * amd64::NBPDR);
    Ok(start..boot.max(variables.u64("kernel_vm_end")?))
}

/// The kernel's `dump_avail`, up to its terminator; memory ends at `top`.
fn dump_avail(variables: Variables<'_>, top: u64) -> Result<DumpAvail, TakeError> {
    let symbol = variables
        .elf
        .symbol("dump_avail")
        .ok_or(TakeError::NoSymbol { name: "dump_avail" })?;
    // PHYS_AVAIL_COUNT elements; a page is what fits the section.
    let room = match symbol.size {
        16..amd64::PAGE_SIZE => symbol.size,
        _ => amd64::PAGE_SIZE,
    };
    let mut pairs = Vec::new();
    for index in 0..room / 16 {
        let at = symbol.value.saturating_add(16 * index);
        let start = variables.u64_at("dump_avail", at)?;
        let end = variables.u64_at("dump_avail", at.saturating_add(8))?;
        if end == 0 {
            break;
        }
        pairs.push((start, end));
    }
    let avail = DumpAvail::from_pairs(&pairs, amd64::PAGE_SIZE)?;
    if avail.segments().is_empty() || avail.end() > top {
        return Err(TakeError::Contradiction {
            what: "dump_avail",
            found: format!("{} ranges up to {:#x}", pairs.len(), avail.end()),
            expected: format!("ranges within memory, which ends at {top:#x}"),
        });
    }
    Ok(avail)
}

/// The kernel's own bitmap, as it is before the kernel map is added.
fn vm_page_dump(variables: Variables<'_>, avail: &DumpAvail, own: u32) -> Result<Marks, TakeError> {
    const CHUNK: usize = 64 << 10;
    let page = amd64::PAGE_SIZE;
    let ranges = if own == 3 {
        let pages = variables.u64("vm_page_dump_pages")?;
        if pages != avail.bits() {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_pages",
                found: pages.to_string(),
                expected: format!("{}, the pages of dump_avail", avail.bits()),
            });
        }
        avail.clone()
    } else {
        let bytes = u64::from(variables.u32("vm_page_dump_size")?);
        let expected = avail.end().div_ceil(page).div_ceil(8);
        if bytes < expected || bytes > expected + page {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_size",
                found: format!("{bytes:#x}"),
                expected: format!("{expected:#x}, up to the end of dump_avail"),
            });
        }
        DumpAvail::from_zero(bytes * 8, page)
    };
    let mut marks = Marks::new(ranges, page)?;
    let start = variables.u64_at("vm_page_dump", address(variables.elf, "vm_page_dump")?)?;
    let len = marks.ranges().bits().div_ceil(64) * 8;
    let mut chunk = vec![0; CHUNK];
    for offset in (0..len).step_by(CHUNK) {
        let n = (len - offset).min(CHUNK as u64) as usize;
        variables.bytes(
            "vm_page_dump",
            start.saturating_add(offset),
            &mut chunk[..n],
        )?;
        let (words, _) = chunk[..n].as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        marks.load(offset as usize / 8, words);
    }
    Ok(marks)
}

/// The same pages over other bits.
fn reindex(mut marks: Marks, ranges: DumpAvail) -> Result<Marks, TakeError> {
    let mut other = Marks::new(ranges, amd64::PAGE_SIZE)?;
    marks.retain(|page| {
        other.add(page..page + amd64::PAGE_SIZE);
        true
    });
    Ok(other)
}

/// Step 3 of the kernel's: what is beyond the direct map or not dumpable goes.
fn filter(marks: &mut Marks, avail: &DumpAvail, dmaplimit: u64, dumpable: &mut Dumpable<'_>) {
    if dmaplimit != 0 {
        marks.remove(dmaplimit..u64::MAX);
    }
    if dumpable.knows_pages() {
        marks.retain(|page| {
            dumpable.allows(page)
                && (dumpable.has_page(page) || avail.bit_of(PhysAddr(page)).is_some())
        });
    } else if !marks.ranges().is_known() {
        let ranges = avail.segments().iter().map(|s| s.start..s.end);
        without_holes(marks, &ranges.collect::<Vec<_>>());
    }
}

/// Takes away what is not in `ranges`, which are ascending.
fn without_holes(marks: &mut Marks, ranges: &[Range<u64>]) {
    let mut end = 0;
    for range in ranges {
        marks.remove(end..range.start);
        end = range.end;
    }
    marks.remove(end..u64::MAX);
}
