//! What the symbols of a kernel's file tell without memory.

use livecore_minidump::KernelElf;

use super::error::LocateError;

/// Whether the bits of a kernel's `vm_page_dump` follow its `dump_avail` (13 on). Before, a bit was
/// a page's number.
pub fn bitmap_follows_dump_avail(elf: &KernelElf) -> bool {
    elf.symbol("vm_page_dump_pages").is_some()
}

/// The address of a symbol that must be there.
///
/// # Errors
///
/// [`LocateError::NoSymbol`] if the file has no such symbol.
pub(super) fn address(elf: &KernelElf, name: &str) -> Result<u64, LocateError> {
    elf.symbol(name)
        .map(|symbol| symbol.value)
        .ok_or(LocateError::NoSymbol { name: name.into() })
}
