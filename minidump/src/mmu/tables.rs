//! Access to the page tables of a dump: the page-table section, and tables in ordinary pages.

use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};

/// The page tables of a dump.
pub trait Tables {
    /// The dump's header.
    fn header(&self) -> &MinidumpHeader;

    /// Number of pages in the dump, which limits the number of tables.
    fn page_count(&self) -> u64;

    /// Reads entry `index` of the page-table section. Entries have `size` bytes (4 or 8) in the
    /// byte order of the kernel.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotMapped`] if the section has no such entry, [`ReadError::Tables`] if it cannot
    /// be read.
    fn pmap_entry(&self, at: VirtAddr, index: u64, size: usize) -> Result<u64, ReadError>;

    /// Reads the 8-byte entry at the physical address `entry`, in the byte order of the kernel. `at`
    /// is the address to translate.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotMapped`] for `at` if the page is not in the dump, [`ReadError::BeyondEnd`] if
    /// the file ends before the entry, [`ReadError::Tables`] if it cannot be read.
    fn phys_entry(&self, at: VirtAddr, entry: PhysAddr) -> Result<u64, ReadError>;

    /// Reads the 16-byte entry `index` of the page-table section as two big-endian numbers.
    ///
    /// # Errors
    ///
    /// Those of [`Tables::pmap_entry`].
    fn pmap_pair(&self, at: VirtAddr, index: u64) -> Result<(u64, u64), ReadError>;
}

/// The reason for an address that neither the direct map nor the kernel map covers.
pub(super) const OUTSIDE: &str = "the address is in neither the direct map nor the kernel map";

/// Returns the error for an address that no table maps.
pub(crate) fn not_mapped<T>(at: VirtAddr, why: &'static str) -> Result<T, ReadError> {
    Err(ReadError::NotMapped { at, why })
}
