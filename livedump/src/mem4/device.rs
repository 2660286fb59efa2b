//! The operations of the two devices, whatever is behind them.

use super::error::MemError;
use super::range::MemRange;
use super::request::DumpRequest;
use crate::sys::memrange::MeState;

/// Which of the two devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// `/dev/mem`: offsets are physical addresses.
    Mem,
    /// `/dev/kmem`: offsets are kernel virtual addresses.
    Kmem,
}

/// What MEM_EXTRACT_PADDR says of a virtual address of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// What is known of the address.
    pub state: MeState,
    /// The physical address, if the state is [`MeState::Mapped`]; 0 otherwise.
    pub paddr: u64,
    /// The NUMA domain, if the state is [`MeState::Mapped`]; 0 otherwise.
    pub domain: i32,
}

impl Extracted {
    /// An address that nothing maps now.
    pub fn unmapped(state: MeState) -> Self {
        Self {
            state,
            paddr: 0,
            domain: 0,
        }
    }
}

/// The operations of mem(4).
pub trait MemDevice: Send + Sync {
    /// Reads at most `buf.len()` bytes at `offset`, and says how many. There is no end of the
    /// device: an address that cannot be read is [`MemError::BadAddress`] if it is the first, and
    /// a short count if some bytes were read before it.
    ///
    /// # Errors
    ///
    /// [`MemError`] with the errno of read(2).
    fn read(&self, device: Device, offset: u64, buf: &mut [u8]) -> Result<usize, MemError>;

    /// Writes at most `bytes.len()` bytes at `offset`, and says how many, as [`MemDevice::read`]
    /// does.
    ///
    /// # Errors
    ///
    /// [`MemError`] with the errno of write(2).
    fn write(&self, device: Device, offset: u64, bytes: &[u8]) -> Result<usize, MemError>;

    /// MEM_EXTRACT_PADDR: what is behind a virtual address of the calling process. Never fails for
    /// an address's sake.
    ///
    /// # Errors
    ///
    /// [`MemError`] if the device does not answer.
    fn extract_paddr(&self, vaddr: u64) -> Result<Extracted, MemError>;

    /// MEMRANGE_GET: every memory range, active or not.
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

    /// MEM_KERNELDUMP: a live dump into a file, at its start; returns when it is written.
    ///
    /// # Errors
    ///
    /// [`MemError::AnotherDumpRunning`], [`MemError::NotPermitted`], or another errno of the ioctl.
    fn kernel_dump(&self, request: &DumpRequest) -> Result<(), MemError>;

    /// Fills `buf` from `offset`, or says which address failed.
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
                        why: "nothing could be read",
                    });
                }
                n => done += n,
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`, or says which address failed; what is before it is
    /// written then.
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
                        why: "nothing could be written",
                    });
                }
                n => done += n,
            }
        }
        Ok(())
    }
}
