//! The kernel's page tables: those of a dump and those in a machine's memory.
//!
//! How they are laid out is data ([`livecore_defs::paging`]). A minidump has a [`section`] of them, which
//! may lead to tables that are ordinary pages. A machine has trees: a [`MachineView`] translates by
//! them, and [`tree`] lists what they map.

mod entry;
mod hashed;
mod mapping;
mod paging;
pub mod section;
mod tables;
pub mod tree;
mod view;

pub use entry::{Entry, decode, entries};
pub use mapping::{Mapping, Protection, Sink, WalkEnd};
pub use paging::Paging;
pub use tables::Tables;
pub(crate) use tables::not_mapped;
pub use view::{Found, MachineView, Root};
