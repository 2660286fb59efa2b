//! Interfaces to the physical memory of a machine.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::PhysAddr;

/// The physical memory of a machine: a file, a device, a guest, or generated pages.
///
/// Several threads can read concurrently. Reading never changes the memory.
pub trait PhysMemory: Send + Sync {
    /// The address ranges of memory: ascending, disjoint, page-aligned.
    fn ranges(&self) -> &[Range<PhysAddr>];

    /// Fills `buf` with the memory at physical address `at`.
    ///
    /// # Errors
    ///
    /// Returns an [`io::ErrorKind::NotFound`] error for an address outside [`PhysMemory::ranges`], and
    /// the errors of the source.
    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()>;

    /// Whether `len` bytes at `at` are known to be zero without reading them. `false` means unknown.
    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        let _ = (at, len);
        false
    }

    /// Whether the machine had more memory than [`PhysMemory::ranges`], for example because an image
    /// is truncated.
    fn is_partial(&self) -> bool {
        self.shortage().is_some()
    }

    /// A message if a file has less memory than its headers describe.
    fn shortage(&self) -> Option<&str> {
        None
    }

    /// A message if the source has different bytes for the same addresses.
    fn contradiction(&self) -> Option<&str> {
        None
    }
}

/// Physical memory that can be changed.
pub trait PhysMemoryMut: PhysMemory {
    /// Writes `bytes` at physical address `at`.
    ///
    /// # Errors
    ///
    /// Returns an [`io::ErrorKind::NotFound`] error for an address outside [`PhysMemory::ranges`], and
    /// the errors of the source. If an address is outside, nothing is written.
    fn write(&self, at: PhysAddr, bytes: &[u8]) -> io::Result<()>;
}

/// Returns the first of `len` addresses from `at` that is in none of the ascending `ranges`.
pub fn first_outside(ranges: &[Range<PhysAddr>], at: PhysAddr, len: u64) -> Option<PhysAddr> {
    let Some(end) = at.checked_add(len) else {
        return Some(at);
    };
    let mut here = at;
    while here < end {
        let after = ranges.partition_point(|range| range.end <= here);
        match ranges.get(after) {
            Some(range) if range.start <= here => here = range.end,
            _ => return Some(here),
        }
    }
    None
}

/// Checks that `len` bytes at `at` are in the ascending `ranges`.
///
/// # Errors
///
/// Returns an [`io::ErrorKind::NotFound`] error with the first address that is not.
pub fn check_ranges(ranges: &[Range<PhysAddr>], at: PhysAddr, len: usize) -> io::Result<()> {
    match first_outside(ranges, at, len as u64) {
        None => Ok(()),
        Some(outside) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no memory at {outside:#x}"),
        )),
    }
}

impl<T: PhysMemory + ?Sized> PhysMemory for Arc<T> {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        (**self).ranges()
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        (**self).read(at, buf)
    }

    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        (**self).known_zero(at, len)
    }

    fn is_partial(&self) -> bool {
        (**self).is_partial()
    }

    fn shortage(&self) -> Option<&str> {
        (**self).shortage()
    }

    fn contradiction(&self) -> Option<&str> {
        (**self).contradiction()
    }
}
