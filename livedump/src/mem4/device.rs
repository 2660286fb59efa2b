//! The operations of the two devices.

use livecore_minidump::{PhysAddr, VirtAddr};

use super::error::MemError;
use super::range::MemRange;
use super::request::DumpRequest;
use crate::sys::memrange::MeState;

/// One of the two devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// `/dev/mem`: offsets are physical addresses.
    Mem,
    /// `/dev/kmem`: offsets are kernel virtual addresses.
    Kmem,
}

/// The result of MEM_EXTRACT_PADDR for a virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// The state of the address.
    pub state: MeState,
    /// The physical address, if the state is [`MeState::Mapped`]; 0 otherwise.
    pub paddr: PhysAddr,
    /// The NUMA domain, if the state is [`MeState::Mapped`]; 0 otherwise.
    pub domain: i32,
}

impl Extracted {
    /// An address that is not mapped now.
    pub fn unmapped(state: MeState) -> Self {
        Self {
            state,
            paddr: PhysAddr(0),
            domain: 0,
        }
    }
}

/// The operations of mem(4).
///
/// An offset in [`Device::Mem`] is a physical address, one in [`Device::Kmem`] a kernel virtual
/// address. A device may refuse any of them, so offsets are integers as in read(2).
pub trait MemDevice: Send + Sync {
    /// Reads at most `buf.len()` bytes at `offset`, and returns how many. The device has no end: an
    /// address that cannot be read is [`MemError::BadAddress`] if it is the first, and otherwise
    /// ends a short read.
    ///
    /// # Errors
    ///
    /// [`MemError`] with the errno of read(2).
    fn read(&self, device: Device, offset: u64, buf: &mut [u8]) -> Result<usize, MemError>;

    /// Writes at most `bytes.len()` bytes at `offset`, and returns how many, like
    /// [`MemDevice::read`].
    ///
    /// # Errors
    ///
    /// [`MemError`] with the errno of write(2).
    fn write(&self, device: Device, offset: u64, bytes: &[u8]) -> Result<usize, MemError>;

    /// MEM_EXTRACT_PADDR: translates a virtual address of the calling process. An invalid address
    /// is not an error.
    ///
    /// # Errors
    ///
    /// [`MemError`] if the device does not answer.
    fn extract_paddr(&self, vaddr: VirtAddr) -> Result<Extracted, MemError>;

    /// MEMRANGE_GET: all memory ranges, active or not.
    ///
    /// # Errors
    ///
    /// [`MemError::NoRangeDriver`] or [`MemError::NoRanges`] if the processor has none.
    fn ranges(&self) -> Result<Vec<MemRange>, MemError>;

    /// MEMRANGE_SET: `operation` is `MEMRANGE_SET_UPDATE` or `MEMRANGE_SET_REMOVE`.
    ///
    /// # Errors
    ///
    /// [`MemError`] with the errno of the ioctl.
    fn set_range(&self, range: &MemRange, operation: i32) -> Result<(), MemError>;

    /// MEM_KERNELDUMP: writes a live dump to a file, from its start.
    ///
    /// # Errors
    ///
    /// [`MemError::AnotherDumpRunning`], [`MemError::NotPermitted`], or another errno of the ioctl.
    fn kernel_dump(&self, request: &DumpRequest) -> Result<(), MemError>;

    /// Fills `buf` from `offset`. The error has the first address that failed.
    ///
    /// # Errors
    ///
    /// [`MemError::BadAddress`] of the first address that cannot be read, and those of
    /// [`MemDevice::read`].
    fn read_exact(&self, device: Device, offset: u64, buf: &mut [u8]) -> Result<(), MemError> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset.wrapping_add(done as u64);
            match self.read(device, at, &mut buf[done..])? {
                0 => {
                    return Err(MemError::BadAddress {
                        at,
                        why: "the device returned no bytes",
                    });
                }
                n => done += n,
            }
        }
        Ok(())
    }

    /// Writes `bytes` at `offset`. The error has the first address that failed; the bytes before it
    /// are written.
    ///
    /// # Errors
    ///
    /// [`MemError::BadAddress`] of the first address that cannot be written, and those of
    /// [`MemDevice::write`].
    fn write_all(&self, device: Device, offset: u64, bytes: &[u8]) -> Result<(), MemError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.wrapping_add(done as u64);
            match self.write(device, at, &bytes[done..])? {
                0 => {
                    return Err(MemError::BadAddress {
                        at,
                        why: "the device accepted no bytes",
                    });
                }
                n => done += n,
            }
        }
        Ok(())
    }
}
