//! Results of a walk over page tables.

use std::ops::ControlFlow;

use crate::{PhysAddr, VirtAddr};

/// Access of the kernel to a page, in addition to reading.
///
/// If the dump format does not keep it (blocks written as pages), this is the default of the format:
/// usually both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protection {
    /// The page is writable.
    pub write: bool,
    /// The page is executable.
    pub execute: bool,
}

/// One entry of the kernel's page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Size in bytes: that of a page or a superpage.
    pub len: u64,
    /// Access of the kernel.
    pub protection: Protection,
}

/// Receives mappings. Returns `Break` to stop the walk.
pub type Sink<'a> = dyn FnMut(Mapping) -> ControlFlow<()> + 'a;

/// The result of a walk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkEnd {
    /// Number of page-table pages that are not in the dump. Their mappings are not known.
    pub tables_missing: u64,
    /// Whether the sink stopped the walk.
    pub stopped: bool,
}
