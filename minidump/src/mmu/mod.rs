//! Page tables of the kernel, in a dump or in the memory of a machine.
//!
//! [`livecore_defs::paging`] describes their formats. A minidump has a [`section`] of page tables,
//! whose entries may refer to tables in ordinary pages. A machine has trees of page tables:
//! [`MachineView`] translates addresses by them, and [`tree`] lists their mappings.

mod entry;
mod hashed;
mod mapping;
mod paging;
mod rooted;
pub mod section;
mod tables;
pub mod tree;
mod view;

pub use entry::{Entry, decode, entries};
pub use mapping::{Mapping, Protection, Sink, WalkEnd};
pub use paging::Paging;
pub use tables::Tables;
pub(crate) use tables::not_mapped;
pub use view::{FoundEntry, MachineView, Root};
