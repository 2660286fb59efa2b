//! Physical memory of a machine, wherever its bytes come from.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::PhysAddr;

/// The physical memory of a machine: a file, a device, a guest, or pages made on demand.
///
/// Read from many threads at once. Reading never changes it.
pub trait PhysMemory: Send + Sync {
    /// The address ranges that are memory: ascending, disjoint, page aligned.
    fn ranges(&self) -> &[Range<u64>];

    /// Fills `buf` from physical address `at`. An address outside of [`PhysMemory::ranges`] is an
    /// [`io::ErrorKind::NotFound`] error, never zeros.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] outside of the ranges, and the errors of what holds the memory.
    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()>;

    /// Whether `len` bytes at `at` are known, without reading them, to be zero. `false` means only
    /// that it is not known.
    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        let _ = (at, len);
        false
    }

    /// Whether memory is known to be missing: the machine had more than [`PhysMemory::ranges`], as
    /// that of an image that was cut off had.
    fn is_partial(&self) -> bool {
        false
    }

    /// Where the source gives the same addresses different bytes, in words: one of them is wrong,
    /// and which cannot be known.
    fn contradiction(&self) -> Option<&str> {
        None
    }
}

/// Physical memory that can be changed.
pub trait PhysMemoryMut: PhysMemory {
    /// Writes `bytes` at physical address `at`. An address outside of [`PhysMemory::ranges`] is an
    /// [`io::ErrorKind::NotFound`] error, and then nothing is written.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] outside of the ranges, and the errors of what holds the memory.
    fn write(&self, at: PhysAddr, bytes: &[u8]) -> io::Result<()>;
}

/// The first of `len` addresses from `at` on that is in none of `ranges`, which are ascending.
pub fn first_outside(ranges: &[Range<u64>], at: u64, len: u64) -> Option<u64> {
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

/// Checks that `len` bytes at `at` are all within `ranges`, which are ascending.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] names the first address that is outside.
pub fn check(ranges: &[Range<u64>], at: u64, len: usize) -> io::Result<()> {
    match first_outside(ranges, at, len as u64) {
        None => Ok(()),
        Some(outside) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no memory at {outside:#x}"),
        )),
    }
}

impl<T: PhysMemory + ?Sized> PhysMemory for Arc<T> {
    fn ranges(&self) -> &[Range<u64>] {
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

    fn contradiction(&self) -> Option<&str> {
        (**self).contradiction()
    }
}
