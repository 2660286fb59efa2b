//! Variables of a kernel, by the names in its symbol table.

use livecore_minidump::{KernelElf, KernelMemory, VirtAddr};

use super::error::LocateError;

/// The longest string that is read from a kernel, bytes.
const STRING_LIMIT: usize = 4096;

/// A kernel's symbols beside the memory that it runs in.
#[derive(Clone, Copy)]
pub struct Variables<'a> {
    /// The symbols.
    pub elf: &'a KernelElf,
    /// The memory.
    pub memory: &'a dyn KernelMemory,
}

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
pub fn address(elf: &KernelElf, name: &'static str) -> Result<u64, LocateError> {
    elf.symbol(name)
        .map(|symbol| symbol.value)
        .ok_or(LocateError::NoSymbol { name })
}

impl Variables<'_> {
    /// The address of a symbol that may not be there.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.elf.symbol(name).map(|symbol| symbol.value)
    }

    /// `buf.len()` bytes at `at`, which is `what`.
    ///
    /// # Errors
    ///
    /// [`LocateError::Memory`] if it cannot be read.
    pub fn bytes(&self, what: &str, at: u64, buf: &mut [u8]) -> Result<(), LocateError> {
        self.memory
            .read_virt(VirtAddr(at), buf)
            .map_err(|source| LocateError::Memory {
                what: what.into(),
                source,
            })
    }

    /// The 64-bit value at `at`.
    ///
    /// # Errors
    ///
    /// [`LocateError::Memory`] if it cannot be read.
    pub fn u64_at(&self, what: &str, at: u64) -> Result<u64, LocateError> {
        let mut bytes = [0; 8];
        self.bytes(what, at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The 32-bit value at `at`.
    ///
    /// # Errors
    ///
    /// [`LocateError::Memory`] if it cannot be read.
    pub fn u32_at(&self, what: &str, at: u64) -> Result<u32, LocateError> {
        let mut bytes = [0; 4];
        self.bytes(what, at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A 64-bit variable that must be there.
    ///
    /// # Errors
    ///
    /// [`LocateError::NoSymbol`], or [`LocateError::Memory`] if it cannot be read.
    pub fn u64(&self, name: &'static str) -> Result<u64, LocateError> {
        self.u64_at(name, address(self.elf, name)?)
    }

    /// A 32-bit variable that must be there.
    ///
    /// # Errors
    ///
    /// [`LocateError::NoSymbol`], or [`LocateError::Memory`] if it cannot be read.
    pub fn u32(&self, name: &'static str) -> Result<u32, LocateError> {
        self.u32_at(name, address(self.elf, name)?)
    }

    /// The value at `at` of a `long` or a pointer.
    ///
    /// # Errors
    ///
    /// [`LocateError::Memory`] if it cannot be read.
    pub fn long_at(&self, what: &str, at: u64) -> Result<u64, LocateError> {
        self.uint_at(what, at, self.elf.pointer_size())
    }

    /// The integer of `len` bytes at `at`: 4 or 8.
    ///
    /// # Errors
    ///
    /// [`LocateError::Memory`] if it cannot be read.
    pub fn uint_at(&self, what: &str, at: u64, len: usize) -> Result<u64, LocateError> {
        if len == 4 {
            self.u32_at(what, at).map(u64::from)
        } else {
            self.u64_at(what, at)
        }
    }

    /// A `long` or pointer that must be there.
    ///
    /// # Errors
    ///
    /// [`LocateError::NoSymbol`], or [`LocateError::Memory`] if it cannot be read.
    pub fn long(&self, name: &'static str) -> Result<u64, LocateError> {
        self.long_at(name, address(self.elf, name)?)
    }

    /// The string at `at`, without its NUL; cut where memory or patience ends.
    pub fn string_at(&self, at: u64) -> Vec<u8> {
        let mut string = Vec::new();
        while string.len() < STRING_LIMIT {
            let Some(here) = at.checked_add(string.len() as u64) else {
                break;
            };
            let mut chunk = vec![0; (64 - here % 64) as usize];
            if self.memory.read_virt(VirtAddr(here), &mut chunk).is_err() {
                break;
            }
            match chunk.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    string.extend(&chunk[..end]);
                    break;
                }
                None => string.extend(&chunk),
            }
        }
        string
    }
}
