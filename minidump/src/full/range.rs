//! Ranges of physical memory in a full dump.

use crate::PhysAddr;

/// A range of physical memory and its offset in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: PhysAddr,
    /// Size in bytes.
    pub len: u64,
    /// Offset in the payload.
    pub offset: u64,
}

impl MemoryRange {
    /// First address after the range.
    pub fn end(&self) -> PhysAddr {
        // Opening refuses ranges that exceed the address space.
        self.start.wrapping_add(self.len)
    }
}
