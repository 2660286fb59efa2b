//! The pages of a dump before they are filtered: those that the kernel itself would dump, and what
//! its kernel map reaches; and the page-table section, which comes from the same reading of the
//! tables.

use livecore_kernel::locate::Machine;

use super::error::TakeError;
use super::filter::Filter;
use super::marks::Marks;
use super::state::KernelState;
use super::walk::{Walk, Walked};

/// Adds what the kernel map reaches to `marks`. Tables that `filter` does not allow are left out of the
/// section if the kernel asks that.
pub(super) fn mark(
    machine: &Machine,
    state: &KernelState,
    marks: Marks,
    filter: &mut Filter<'_>,
) -> Result<Walked, TakeError> {
    let mut walk = Walk::new(&machine.view, &state.root, filter, marks);
    if !(state.follows_avail && state.port.asks_tables()) {
        walk.write_all_tables();
    }
    walk.set_window(state.crashdumpmap);
    state.port.walk(&mut walk, state.kernel_map.clone())?;
    Ok(walk.done())
}
