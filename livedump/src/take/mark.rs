//! Marks the pages of a dump before the filter: those that the kernel has marked, and those that
//! the kernel map reaches. The same walk of the page tables gives the page-table section.

use livecore_kernel::locate::Machine;

use super::error::TakeError;
use super::filter::Filter;
use super::marks::Marks;
use super::state::KernelState;
use super::walk::{Walk, Walked};

/// Adds the pages that the kernel map reaches to `marks`. Page tables that `filter` refuses are
/// omitted from the section if the kernel does so.
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
