//! The memory of a machine as a debugger sees it: what a dump and a live machine both answer.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::mmu::WalkEnd;
use crate::{Mapping, PhysAddr, VirtAddr};

/// Why an address could not be read.
///
/// A hole is never zeros: whoever wants zeros says so himself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No mapping of the kernel's covers the address.
    #[error("virtual address {at} is not mapped: {why}")]
    NotMapped {
        /// The address.
        at: VirtAddr,
        /// Which table said so.
        why: &'static str,
    },
    /// The page is not in the dump, or the machine has no memory there.
    #[error("page {at} is not in the dump")]
    Hole {
        /// The first address that is missing.
        at: PhysAddr,
    },
    /// The page should be there, but the file ends before it.
    #[error(
        "page {at} is beyond the end of the file: it ends at {end:#x}, the page is at {offset:#x}"
    )]
    BeyondEnd {
        /// The first address that is missing.
        at: PhysAddr,
        /// Its offset in the payload.
        offset: u64,
        /// Where the payload ends.
        end: u64,
    },
    /// The page tables that say where the address is could not be had.
    #[error("page tables of virtual address {at}: {source}")]
    Tables {
        /// The address.
        at: VirtAddr,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The bytes under the address could not be had (a damaged frame, an I/O error).
    #[error("page {at}: {source}")]
    Io {
        /// The address.
        at: PhysAddr,
        /// What happened.
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
    /// The number.
    pub fn value(self) -> u64 {
        match self {
            Self::Phys(at) => at.0,
            Self::Virt(at) => at.0,
        }
    }

    /// The address `bytes` higher in the same space, unless that does not exist.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        match self {
            Self::Phys(at) => at.checked_add(bytes).map(Self::Phys),
            Self::Virt(at) => at.checked_add(bytes).map(Self::Virt),
        }
    }
}

/// A kernel's memory, physical and virtual.
pub trait KernelMemory: Send + Sync {
    /// Bytes per page.
    fn page_size(&self) -> u64;

    /// Fills `buf` from physical memory at `at`, or says which address could not be read.
    ///
    /// # Errors
    ///
    /// [`ReadError::Hole`], [`ReadError::BeyondEnd`] or [`ReadError::Io`] of the first such address.
    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError>;

    /// The physical address behind a kernel virtual address. Good to the end of its page.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotMapped`], or [`ReadError::Tables`] if the page tables cannot be read.
    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError>;

    /// Reads what is there of `buf.len()` bytes at `at`: up to the first hole or the end of the
    /// file, and says why it ended if it did.
    fn read_phys_part(&self, at: PhysAddr, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
        let error = match self.read_phys(at, buf) {
            Ok(()) => return (buf.len(), Ok(())),
            Err(error) => error,
        };
        let missing = match &error {
            ReadError::Hole { at } | ReadError::BeyondEnd { at, .. } | ReadError::Io { at, .. } => {
                *at
            }
            _ => at,
        };
        let good = missing.0.saturating_sub(at.0).min(buf.len() as u64) as usize;
        match self.read_phys(at, &mut buf[..good]) {
            Ok(()) => (good, Err(error)),
            Err(error) => (0, Err(error)),
        }
    }

    /// Reads what is there of `buf.len()` bytes at `at`, page by page: up to the first byte that
    /// cannot be read, and says why it ended if it did.
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
                        why: "the range runs over the end of the address space",
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

    /// Fills `buf` from kernel virtual memory at `at`, or says which address could not be read.
    ///
    /// # Errors
    ///
    /// Those of [`KernelMemory::translate`] and [`KernelMemory::read_phys`].
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

/// Pages that follow each other in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Whether they are in the dump; else they are a hole.
    pub present: bool,
    /// The first address behind them; `None` if they go on to the end of the address space.
    pub end: Option<u64>,
}

impl Stretch {
    /// Pages in the dump.
    pub fn present(end: Option<u64>) -> Self {
        Self { present: true, end }
    }

    /// Pages that are not.
    pub fn hole(end: Option<u64>) -> Self {
        Self {
            present: false,
            end,
        }
    }
}

/// A direct map: addresses that lead to memory without page tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectMap {
    /// Its addresses.
    pub addresses: Range<u64>,
    /// The physical address behind the first.
    pub phys: u64,
}

/// The memory of a kernel that was dumped: what debuggers ask of a dump of any kind.
///
/// A minidump answers by itself; of a full dump, whoever has found its kernel in it.
pub trait DumpMemory: KernelMemory {
    /// Where the byte at `at` lies in the payload; `None` if its page is not in the dump.
    fn offset_of(&self, at: PhysAddr) -> Option<u64>;

    /// The pages from the one that holds `at` on that are all in the dump, or all not.
    fn stretch(&self, at: PhysAddr) -> Stretch;

    /// The first address behind all memory that can be in the dump.
    fn memory_end(&self) -> u64;

    /// Gives every mapping of the kernel map to `sink`, whether or not its page is in the dump.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the page tables cannot be read. Tables that are not in the dump are counted.
    fn walk(&self, sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<WalkEnd, ReadError>;

    /// The direct map, if there is one.
    fn direct_map(&self) -> Option<DirectMap>;

    /// Where the direct map has a page.
    fn direct_map_of(&self, at: PhysAddr) -> Option<VirtAddr> {
        let map = self.direct_map()?;
        let va = map
            .addresses
            .start
            .checked_add(at.0.checked_sub(map.phys)?)?;
        (va < map.addresses.end).then_some(VirtAddr(va))
    }

    /// The lowest address of the kernel map, as far as that is known.
    fn kernbase(&self) -> Option<u64>;
}
