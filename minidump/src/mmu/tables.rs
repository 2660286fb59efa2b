//! What a translation reads: the page-table section, and tables that are ordinary pages.

use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};

/// The page tables of a dump.
pub trait Tables {
    /// The dump's header.
    fn header(&self) -> &MinidumpHeader;

    /// How many pages the dump has. No kernel has as many tables.
    fn page_count(&self) -> u64;

    /// Entry `index` of the page-table section, entries of `size` bytes (4 or 8) in the kernel's
    /// byte order. An index beyond the section is [`ReadError::NotMapped`].
    ///
    /// # Errors
    ///
    /// [`ReadError::NotMapped`], or [`ReadError::Tables`] if the section cannot be read.
    fn pmap_entry(&self, at: VirtAddr, index: u64, size: usize) -> Result<u64, ReadError>;

    /// The 8-byte entry at physical address `entry`, in the kernel's byte order. If the page is not
    /// in the dump, the address it was needed for is [`ReadError::NotMapped`].
    ///
    /// # Errors
    ///
    /// [`ReadError::NotMapped`], [`ReadError::BeyondEnd`] if the file ends before the entry, or
    /// [`ReadError::Tables`] if it cannot be read.
    fn phys_entry(&self, at: VirtAddr, entry: PhysAddr) -> Result<u64, ReadError>;

    /// The 16-byte entry `index` of the page-table section as two big-endian numbers.
    ///
    /// # Errors
    ///
    /// Those of [`Tables::pmap_entry`].
    fn pmap_pair(&self, at: VirtAddr, index: u64) -> Result<(u64, u64), ReadError>;
}

/// What errors say of an address that neither the direct map nor the kernel map covers.
pub(super) const OUTSIDE: &str = "it lies below the kernel map and outside of the direct map";

/// The error of an address that no table maps.
pub(crate) fn not_mapped<T>(at: VirtAddr, why: &'static str) -> Result<T, ReadError> {
    Err(ReadError::NotMapped { at, why })
}
