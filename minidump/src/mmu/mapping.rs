//! What a walk over page tables gives.

use std::ops::ControlFlow;

use crate::{PhysAddr, VirtAddr};

/// What the kernel may do with a page, besides reading it.
///
/// Where a dump's format loses it (blocks that were written out as pages), it is what the format
/// says: as a rule everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protection {
    /// Write to it.
    pub write: bool,
    /// Execute it.
    pub execute: bool,
}

/// One entry of the kernel's page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Bytes: a page, or a superpage.
    pub len: u64,
    /// What the kernel may do with it.
    pub protection: Protection,
}

/// Takes mappings until it has enough.
pub type Sink<'a> = dyn FnMut(Mapping) -> ControlFlow<()> + 'a;

/// How a walk has gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkEnd {
    /// Page-table pages that are not in the dump; what they map is not known.
    pub tables_missing: u64,
    /// Whether the sink has ended it.
    pub stopped: bool,
}
