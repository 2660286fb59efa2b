//! Interfaces to the memory of a kernel, in a dump or on a running machine.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::mmu::{Mapping, WalkEnd};
use crate::{PhysAddr, VirtAddr};

/// An error of reading an address.
///
/// A hole is an error. It is never read as zeros.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The kernel does not map the address.
    #[error("virtual address {at} is not mapped: {why}")]
    NotMapped {
        /// The address.
        at: VirtAddr,
        /// The reason.
        why: &'static str,
    },
    /// The page is not in the dump, or the machine has no memory there.
    #[error("page {at} is not in the dump")]
    Hole {
        /// The first missing address.
        at: PhysAddr,
    },
    /// The page was left out of the dump on request.
    #[error("page {at} was excluded by --exclude {class}")]
    Excluded {
        /// The first missing address.
        at: PhysAddr,
        /// The class of the page.
        class: String,
    },
    /// The page is in the bitmap, but the file ends before it.
    #[error(
        "page {at} is beyond the end of the file: it ends at {end:#x}, the page is at {offset:#x}"
    )]
    BeyondEnd {
        /// The first missing address.
        at: PhysAddr,
        /// Its offset in the payload.
        offset: u64,
        /// The end of the payload.
        end: u64,
    },
    /// The page tables that translate the address cannot be read.
    #[error("page tables of virtual address {at}: {source}")]
    Tables {
        /// The address.
        at: VirtAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The page cannot be read (a damaged frame, an I/O error).
    #[error("page {at}: {source}")]
    Io {
        /// The address.
        at: PhysAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// An address in either address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// A physical address.
    Phys(PhysAddr),
    /// A kernel virtual address.
    Virt(VirtAddr),
}

impl Address {
    /// The address as an integer.
    pub fn value(self) -> u64 {
        match self {
            Self::Phys(at) => at.0,
            Self::Virt(at) => at.0,
        }
    }

    /// Adds `bytes`. Returns `None` on overflow.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        match self {
            Self::Phys(at) => at.checked_add(bytes).map(Self::Phys),
            Self::Virt(at) => at.checked_add(bytes).map(Self::Virt),
        }
    }
}

/// A kernel's memory, physical and virtual.
pub trait KernelMemory: Send + Sync {
    /// The page size in bytes.
    fn page_size(&self) -> u64;

    /// Fills `buf` with the physical memory at `at`.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::Hole`], [`ReadError::BeyondEnd`] or [`ReadError::Io`] of the first such address.
    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError>;

    /// Translates a kernel virtual address to a physical address. The result is valid up to the end
    /// of the page.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError::NotMapped`], or [`ReadError::Tables`] if the page tables cannot be read.
    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError>;

    /// Reads physical memory at `at` into `buf`, up to the first address that cannot be read. Returns
    /// the number of bytes and the error, if any.
    ///
    /// # Errors
    ///
    /// The second value has the errors of [`KernelMemory::read_phys`].
    fn read_phys_part(&self, at: PhysAddr, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
        let error = match self.read_phys(at, buf) {
            Ok(()) => return (buf.len(), Ok(())),
            Err(error) => error,
        };
        let missing = match &error {
            ReadError::Hole { at }
            | ReadError::Excluded { at, .. }
            | ReadError::BeyondEnd { at, .. }
            | ReadError::Io { at, .. } => *at,
            _ => at,
        };
        let good = missing.0.saturating_sub(at.0).min(buf.len() as u64) as usize;
        match self.read_phys(at, &mut buf[..good]) {
            Ok(()) => (good, Err(error)),
            Err(error) => (0, Err(error)),
        }
    }

    /// Reads memory at `at` into `buf`, page by page, up to the first address that cannot be read.
    /// Returns the number of bytes and the error, if any.
    ///
    /// # Errors
    ///
    /// The second value has the errors of [`KernelMemory::translate`] and [`KernelMemory::read_phys`].
    fn read_part(&self, at: Address, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
        let page = self.page_size();
        let mut done = 0;
        while done < buf.len() {
            let found = match at.checked_add(done as u64) {
                Some(Address::Phys(here)) => Ok((here, here.offset_in(page))),
                Some(Address::Virt(here)) => {
                    let found = self.translate(here);
                    found.map(|found| (found, here.offset_in(page)))
                }
                None => Err(match at {
                    Address::Phys(at) => ReadError::Hole { at },
                    Address::Virt(at) => ReadError::NotMapped {
                        at,
                        why: "range exceeds the address space",
                    },
                }),
            };
            let (found, inside) = match found {
                Ok(found) => found,
                Err(error) => return (done, Err(error)),
            };
            let left = usize::try_from(page - inside).unwrap_or(usize::MAX);
            let n = left.min(buf.len() - done);
            let (got, result) = self.read_phys_part(found, &mut buf[done..done + n]);
            done += got;
            if result.is_err() {
                return (done, result);
            }
        }
        (done, Ok(()))
    }

    /// Fills `buf` with the kernel virtual memory at `at`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`KernelMemory::translate`] and [`KernelMemory::read_phys`].
    fn read_virt(&self, at: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.read_part(Address::Virt(at), buf).1
    }
}

macro_rules! forward {
    ($pointer:ty) => {
        impl<M: KernelMemory + ?Sized> KernelMemory for $pointer {
            fn page_size(&self) -> u64 {
                (**self).page_size()
            }

            fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
                (**self).read_phys(at, buf)
            }

            fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
                (**self).translate(at)
            }

            fn read_phys_part(
                &self,
                at: PhysAddr,
                buf: &mut [u8],
            ) -> (usize, Result<(), ReadError>) {
                (**self).read_phys_part(at, buf)
            }

            fn read_part(&self, at: Address, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
                (**self).read_part(at, buf)
            }
        }
    };
}

forward!(&M);
forward!(Arc<M>);

/// Contiguous pages in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// Whether the pages are in the dump. If not, they are a hole.
    pub present: bool,
    /// The end address, exclusive; `None` for the end of the address space.
    pub end: Option<PhysAddr>,
}

impl PageRun {
    /// Creates a run of pages in the dump.
    pub fn present(end: Option<PhysAddr>) -> Self {
        Self { present: true, end }
    }

    /// Creates a hole.
    pub fn hole(end: Option<PhysAddr>) -> Self {
        Self {
            present: false,
            end,
        }
    }
}

/// A direct map: addresses that are translated without page tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectMap {
    /// Its addresses.
    pub addresses: Range<VirtAddr>,
    /// The physical address of the first.
    pub phys: PhysAddr,
}

/// The kernel memory of a dump, for debuggers.
///
/// A minidump implements this. A full dump needs its kernel to be located first.
pub trait DumpMemory: KernelMemory {
    /// Returns the payload offset of the byte at `at`, or `None` if its page is not in the dump.
    fn offset_of(&self, at: PhysAddr) -> Option<u64>;

    /// Returns the contiguous pages, starting with that of `at`, that are all in the dump or all not.
    fn run_at(&self, at: PhysAddr) -> PageRun;

    /// The end of the memory that can be in the dump.
    fn memory_end(&self) -> PhysAddr;

    /// Passes every mapping of the kernel map to `sink`, whether or not its page is in the dump.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError`] if the page tables cannot be read. Tables that are not in the dump are counted.
    fn walk(&self, sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<WalkEnd, ReadError>;

    /// The direct map, if there is one.
    fn direct_map(&self) -> Option<DirectMap>;

    /// Returns the address of a page in the direct map.
    fn direct_map_of(&self, at: PhysAddr) -> Option<VirtAddr> {
        let map = self.direct_map()?;
        let offset = at.offset_from(map.phys)?;
        let va = map.addresses.start.checked_add(offset)?;
        (va < map.addresses.end).then_some(va)
    }

    /// The lowest address of the kernel map, if known.
    fn kernbase(&self) -> Option<VirtAddr>;
}
