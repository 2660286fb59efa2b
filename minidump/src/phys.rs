//! Physical memory of a machine, wherever its bytes come from.

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// The physical memory of a machine: a file, a device, a guest, or pages made on demand.
///
/// Read from many threads at once. Reading never changes it.
pub trait PhysMemory: Send + Sync {
    /// The address ranges that are memory: ascending, disjoint, page aligned.
    fn ranges(&self) -> &[Range<u64>];

    /// Fills `buf` from physical address `at`. An address outside of [`PhysMemory::ranges`] is an
    /// [`io::ErrorKind::NotFound`] error, never zeros.
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Whether `len` bytes at `at` are known, without reading them, to be zero. `false` means only
    /// that nobody knows.
    fn known_zero(&self, at: u64, len: u64) -> bool {
        let _ = (at, len);
        false
    }
}

/// Physical memory that can be changed.
pub trait PhysMemoryMut: PhysMemory {
    /// Writes `bytes` at physical address `at`. An address outside of [`PhysMemory::ranges`] is an
    /// [`io::ErrorKind::NotFound`] error, and then nothing is written.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
}

impl<T: PhysMemory + ?Sized> PhysMemory for Arc<T> {
    fn ranges(&self) -> &[Range<u64>] {
        (**self).ranges()
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read(at, buf)
    }

    fn known_zero(&self, at: u64, len: u64) -> bool {
        (**self).known_zero(at, len)
    }
}
