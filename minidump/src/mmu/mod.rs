//! The kernel's page tables: those of a dump and those in a machine's memory.
//!
//! How they are laid out is data ([`livecore_defs::paging`]). A minidump has a [`section`] of them, which
//! may lead to tables that are ordinary pages; a machine has trees, which a [`MachineView`] walks.

mod entry;
mod hashed;
mod mapping;
mod paging;
pub mod section;
mod tables;
mod view;

pub use entry::{Entry, decode, protection};
pub use mapping::{Mapping, Protection, Sink, WalkEnd};
pub use paging::Paging;
pub use tables::Tables;
pub(crate) use tables::not_mapped;
pub use view::{Found, MachineView, Root, entries};
