//! Page tables in a machine's memory, as its processor walks them.

mod paging;
mod view;

pub use paging::{Entry, Geometry, Level, Paging};
pub use view::{Found, MachineView, Root, entries};
