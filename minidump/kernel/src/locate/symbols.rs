//! Reads the symbols of a kernel file.

use livecore_minidump::KernelElf;

use super::error::LocateError;

/// Whether the bits of a kernel's `vm_page_dump` are in the order of `dump_avail` (since 13). Before,
/// a bit's number was a page number.
pub fn bitmap_follows_dump_avail(elf: &KernelElf) -> bool {
    elf.symbol("vm_page_dump_pages").is_some()
}

/// Returns the address of a required symbol.
///
/// # Errors
///
/// Returns [`LocateError::NoSymbol`] if the file has no such symbol.
pub(super) fn address(elf: &KernelElf, name: &str) -> Result<u64, LocateError> {
    elf.symbol(name)
        .map(|symbol| symbol.value)
        .ok_or(LocateError::NoSymbol { name: name.into() })
}
