//! A minidump from outside of the kernel: what the kernel of a machine would have written, made
//! from the machine's memory and the kernel's ELF file.
//!
//! [`plan_machine`] is the list of the steps:
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ Machine    where the kernel lies, and how it maps: `livecore_kernel::locate`
//!     │ state      its variables, and the bitmap of pages that it keeps
//!     │ mark       what the kernel map reaches: pages, and the page-table section
//!     │ filter     without what the kernel would not dump, and what is not there
//!     │ sections   the sizes and offsets of all sections
//!     ▼
//!  Taken: a Plan, whose pages are read when they are written
//! ```
//!
//! The steps are those of `minidumpsys` (FreeBSD `sys/*/*/minidump_machdep.c`); what differs from
//! architecture to architecture is one file each in `port`. Memory is one bit per page of
//! `dump_avail`, and the page tables that are not empty. Nothing is consistent: the machine runs on
//! while its tables are read, and a page is what it is when it is written.
//!
//! [`run()`] takes a dump from beginning to end: of memory, of a guest, by the running kernel.

pub mod error;
mod filter;
pub mod guest;
pub mod live;
mod mark;
mod marks;
pub mod observer;
mod pages;
mod patch;
mod port;
mod registers;
pub mod run;
pub mod running;
mod sections;
mod settle;
mod state;
mod taken;
mod walk;

use std::sync::Arc;

use livecore_kernel::locate::Machine;
use livecore_minidump::{KernelElf, PhysMemory};

pub use error::TakeError;
pub use guest::{GuestSource, Pausing};
pub use observer::{NoObserver, Observer, Stage};
pub use run::{Done, Output, RunOptions, Source, run};
pub use running::running;
pub use settle::settle;
pub use state::facts::Facts;
pub use taken::{Taken, Told};

use filter::{Filter, Filtered};
use mark::mark;
use sections::Form;
use state::KernelState;
use walk::Walked;

/// How a dump is planned.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The minidump's version. The version that the kernel itself writes if `None`.
    pub version: Option<u32>,
}

/// Plans a dump of the machine with this memory, which runs this kernel.
///
/// # Errors
///
/// [`TakeError`] if the kernel is not found there, or no dump can be made of it.
pub fn plan(
    memory: Arc<dyn PhysMemory>,
    elf: &KernelElf,
    options: &PlanOptions,
) -> Result<Taken, TakeError> {
    plan_machine(Machine::find(memory, elf)?, elf, options)
}

/// Plans a dump of a machine whose kernel has been found.
///
/// # Errors
///
/// [`TakeError`] if no dump can be made of it.
pub fn plan_machine(
    machine: Machine,
    elf: &KernelElf,
    options: &PlanOptions,
) -> Result<Taken, TakeError> {
    let (state, own) = KernelState::read(&machine, elf)?;
    let form = Form::choose(&machine, &state, options.version)?;
    let mut filter = Filter::new(&machine, state.vm_pages.as_ref());
    let Walked {
        mut marks,
        pmap,
        pmap_pages,
        lost_tables,
    } = mark(&machine, &state, form.over(own)?, &mut filter)?;
    let Filtered { outside, unread } = filter.keep(&mut marks, &state.avail);
    let plan = sections::lay_out(&machine, &state, &form, marks, (pmap, pmap_pages))?;
    let mut notes = state.notes;
    for (count, what) in [
        (outside, "pages are outside of the memory and left out"),
        (
            lost_tables,
            "page tables are outside of the memory and count as empty",
        ),
        (
            unread,
            "pages have no readable struct vm_page and count as dumpable",
        ),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    Ok(Taken::new(plan, state.facts, machine, notes))
}
