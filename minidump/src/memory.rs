//! The memory of a machine as a debugger sees it: what a dump and a live machine both answer.

use std::io;

use crate::{PhysAddr, VirtAddr};

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

/// A kernel's memory, physical and virtual.
pub trait KernelMemory: Send + Sync {
    /// Bytes per page.
    fn page_size(&self) -> u64;

    /// Fills `buf` from physical memory at `at`, or says which address could not be read.
    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError>;

    /// The physical address behind a kernel virtual address. Good to the end of its page.
    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError>;

    /// Fills `buf` from kernel virtual memory at `at`, page by page.
    fn read_virt(&self, at: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let page = self.page_size();
        let mut done = 0;
        while done < buf.len() {
            let here = at.checked_add(done as u64).ok_or(ReadError::NotMapped {
                at,
                why: "the range runs over the end of the address space",
            })?;
            let left = page - here.offset_in(page);
            let n = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buf.len() - done);
            self.read_phys(self.translate(here)?, &mut buf[done..done + n])?;
            done += n;
        }
        Ok(())
    }
}
