//! The plan of a dump, step by step.

use std::sync::Arc;

use livecore_kernel::locate::Machine;
use livecore_minidump::{KernelElf, PhysMemory};

use super::error::TakeError;
use super::filter::{Filter, Filtered};
use super::mark::mark;
use super::sections::{self, Form};
use super::state::KernelState;
use super::taken::Taken;
use super::walk::Walked;

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
    Ok(Taken::new(plan, state.facts, machine, outside, notes))
}
