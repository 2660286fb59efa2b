//! Plans a dump.

use std::sync::Arc;

use livecore_kernel::locate::Machine;
use livecore_minidump::{KernelElf, PhysMemory};

use super::error::TakeError;
use super::filter::{Filter, Filtered};
use super::mark::mark;
use super::note::Note;
use super::sections::{self, Form};
use super::state::KernelState;
use super::taken::Taken;
use super::walk::Walked;

/// Options of the plan.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PlanOptions {
    /// The minidump version; `None` for the kernel's own.
    pub version: Option<u32>,
}

impl PlanOptions {
    /// Sets [`Self::version`].
    #[must_use]
    pub fn version(mut self, version: impl Into<Option<u32>>) -> Self {
        self.version = version.into();
        self
    }
}

/// Plans a dump of the machine with this memory and this kernel.
///
/// # Errors
///
/// [`TakeError`] if the kernel is not found, or cannot be dumped.
pub fn plan(
    memory: Arc<dyn PhysMemory>,
    elf: &KernelElf,
    options: &PlanOptions,
) -> Result<Taken, TakeError> {
    plan_machine(Machine::find(memory, elf)?, elf, options)
}

/// Plans a dump of a machine whose kernel is located.
///
/// # Errors
///
/// [`TakeError`] if it cannot be dumped.
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
    if lost_tables > 0 {
        notes.push(Note::TablesOutside { count: lost_tables });
    }
    if unread > 0 {
        notes.push(Note::VmPagesUnreadable { count: unread });
    }
    Ok(Taken::new(plan, state.facts, machine, outside, notes))
}
