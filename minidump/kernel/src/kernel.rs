//! A kernel: its memory and its symbols.

use std::ops::Range;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_minidump::elf::sections::SHF_ALLOC;
use livecore_minidump::{Architecture, Dump, KernelElf, KernelMemory, VirtAddr};

use crate::debug_info::DebugInfo;
use crate::error::KernelError;
use crate::shared::Shared;
use crate::types::{STRUCTURES, Types};

/// Finds functions that the kernel file does not have: those of loaded modules.
pub trait Functions: Send + Sync {
    /// Returns the function that contains `at`, and the offset of `at` in it. Returns `None` if
    /// `at` is in no loaded module.
    fn function(&self, at: VirtAddr) -> Option<(String, u64)>;
}

impl<F: Functions + ?Sized> Functions for &F {
    fn function(&self, at: VirtAddr) -> Option<(String, u64)> {
        (**self).function(at)
    }
}

impl<F: Functions + ?Sized> Functions for Arc<F> {
    fn function(&self, at: VirtAddr) -> Option<(String, u64)> {
        (**self).function(at)
    }
}

/// A kernel: its memory and its symbols.
///
/// It borrows them (`Kernel<'a>`) or shares ownership (`Kernel<'static>`). A clone refers to the
/// same memory and symbols.
#[derive(Clone)]
pub struct Kernel<'a> {
    memory: Arc<dyn KernelMemory + 'a>,
    elf: Shared<'a, KernelElf>,
    types: Option<Shared<'a, Types>>,
    functions: Option<Arc<dyn Functions + 'a>>,
    debug: Arc<DebugInfo>,
    displacement: u64,
}

/// Returns the displacement of a dump's kernel from its linked address, modulo 2^64.
pub(crate) fn displacement(dump: &Dump) -> u64 {
    let header = dump.header();
    let linked = header.arch.linked_at;
    linked.map_or(0, |linked| header.startkernel.wrapping_sub(linked.0))
}

impl<'a> Kernel<'a> {
    /// Creates a kernel from its memory and the symbols in `elf`.
    pub fn new(memory: impl KernelMemory + 'a, elf: impl Into<Shared<'a, KernelElf>>) -> Self {
        Self {
            memory: Arc::new(memory),
            elf: elf.into(),
            types: None,
            functions: None,
            debug: Arc::default(),
            displacement: 0,
        }
    }

    /// Creates the kernel of a dump. A powerpc64 kernel is displaced to the address in the dump's
    /// header.
    pub fn of_dump(dump: &'a Dump, elf: impl Into<Shared<'a, KernelElf>>) -> Self {
        Self::new(dump, elf).displaced(displacement(dump))
    }

    /// Adds type information about [`STRUCTURES`], for members without an exported offset.
    #[must_use]
    pub fn with_types(self, types: impl Into<Shared<'a, Types>>) -> Self {
        Self {
            types: Some(types.into()),
            ..self
        }
    }

    /// Adds the functions of loaded modules.
    #[must_use]
    pub fn with_functions(self, functions: impl Functions + 'a) -> Self {
        Self {
            functions: Some(Arc::new(functions)),
            ..self
        }
    }

    /// Adds the file with the debug information of the kernel file, for backtraces. It is read when
    /// one needs it, with at most [`KernelElf::memory`].
    #[must_use]
    pub fn with_debug_file(self, file: Arc<dyn ReadAt>) -> Self {
        Self {
            debug: Arc::new(DebugInfo::of_file(file)),
            ..self
        }
    }

    /// Reads and adds type information about [`STRUCTURES`] and the functions of loaded modules.
    /// This takes time.
    #[must_use]
    pub fn detailed(self) -> Self {
        self.detailed_with(&[])
    }

    /// As [`Kernel::detailed`], with type information about the structures `more` too.
    #[must_use]
    pub fn detailed_with(self, more: &[&str]) -> Self {
        let types = Types::read(&self.elf, &[&STRUCTURES, more].concat());
        let kernel = self.with_types(Arc::new(types));
        // Without a module list, only the kernel's own functions are known.
        let modules = kernel.modules().unwrap_or_default();
        kernel.with_functions(modules)
    }

    /// Sets the displacement of the kernel from its linked addresses, modulo 2^64. For powerpc64, it
    /// is `startkernel` minus the lowest address in the file.
    #[must_use]
    pub fn displaced(self, displacement: u64) -> Self {
        Self {
            displacement,
            ..self
        }
    }

    /// The displacement of the kernel from its linked addresses, modulo 2^64.
    pub fn displacement(&self) -> u64 {
        self.displacement
    }

    /// The kernel file.
    pub fn elf(&self) -> &KernelElf {
        &self.elf
    }

    /// Its architecture, if supported.
    pub(crate) fn architecture(&self) -> Option<&'static Architecture> {
        Architecture::of_machine(self.elf.machine())
    }

    /// Its memory.
    pub fn memory(&self) -> &dyn KernelMemory {
        &*self.memory
    }

    /// Its type information.
    pub fn types(&self) -> Option<&Types> {
        self.types.as_deref()
    }

    /// Its debug information about code.
    pub(crate) fn debug(&self) -> &DebugInfo {
        &self.debug
    }

    /// Messages about debug information that backtraces could not read.
    pub fn debug_problems(&self) -> Vec<String> {
        self.debug.problems()
    }

    /// Converts an address in memory to the address in the kernel file.
    pub(crate) fn linked(&self, at: VirtAddr) -> VirtAddr {
        VirtAddr(at.0.wrapping_sub(self.displacement))
    }

    /// Converts an address in the kernel file to the address in memory.
    pub(crate) fn placed(&self, linked: VirtAddr) -> VirtAddr {
        linked.wrapping_add(self.displacement)
    }

    /// Returns the address of a variable.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::NoSymbol`] if the kernel file has no such variable.
    pub fn address(&self, name: &str) -> Result<VirtAddr, KernelError> {
        self.elf
            .symbol(name)
            .filter(|s| !s.absolute)
            .map(|s| self.placed(VirtAddr(s.value)))
            .ok_or_else(|| KernelError::NoSymbol(name.into()))
    }

    /// The addresses of the kernel's image in memory. The range is empty if the kernel file has no
    /// sections in memory.
    pub fn range(&self) -> Range<VirtAddr> {
        let start = self.elf.lowest_address().unwrap_or_default();
        let loaded = self.elf.sections().iter();
        let loaded = loaded.filter(|section| section.flags & SHF_ALLOC != 0);
        let ends = loaded.map(|section| section.address.saturating_add(section.size));
        let end = VirtAddr(ends.max().unwrap_or(start.0)).max(start);
        self.placed(start)..self.placed(end)
    }

    /// Reads the unsigned integer of `len` bytes (1, 2, 4 or 8) at `at`. `what` names it in errors.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn uint_at(&self, what: &str, at: VirtAddr, len: usize) -> Result<u64, KernelError> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.bytes_at(what, at, &mut bytes[..len])?;
        // No caller passes another length.
        Ok(self.elf.order().uint(&bytes[..len]).unwrap_or(0))
    }

    /// Reads the pointer at `at`. `what` names it in errors.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn pointer_at(&self, what: &str, at: VirtAddr) -> Result<VirtAddr, KernelError> {
        self.long_at(what, at).map(VirtAddr)
    }

    /// Reads the `unsigned long` at `at`. `what` names it in errors.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn long_at(&self, what: &str, at: VirtAddr) -> Result<u64, KernelError> {
        self.uint_at(what, at, self.elf.pointer_size())
    }

    /// Fills `buf` with the memory at `at`. `what` names it in errors.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn bytes_at(&self, what: &str, at: VirtAddr, buf: &mut [u8]) -> Result<(), KernelError> {
        self.memory
            .read_virt(at, buf)
            .map_err(|source| KernelError::Unreadable {
                what: what.into(),
                at,
                source,
            })
    }

    /// Reads the variable `name`, an integer of `len` bytes.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::NoSymbol`] if the kernel file has no such variable and
    /// [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn variable(&self, name: &str, len: usize) -> Result<u64, KernelError> {
        self.uint_at(name, self.address(name)?, len)
    }

    /// Reads the variable `name`, a pointer.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::NoSymbol`] if the kernel file has no such variable and
    /// [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn pointer(&self, name: &str) -> Result<VirtAddr, KernelError> {
        self.pointer_at(name, self.address(name)?)
    }

    /// Reads the variable `name`, an `unsigned long`.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::NoSymbol`] if the kernel file has no such variable and
    /// [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn long(&self, name: &str) -> Result<u64, KernelError> {
        self.long_at(name, self.address(name)?)
    }

    /// Returns `__FreeBSD_version` from the variable `osreldate`, if it is valid: 10.0 to 99.x.
    pub fn osreldate(&self) -> Option<u32> {
        let value = u32::try_from(self.variable("osreldate", 4).ok()?).ok()?;
        (1_000_000..100_000_000).contains(&value).then_some(value)
    }

    /// Returns the function that contains `at`, and the offset of `at` in it.
    pub fn function(&self, at: VirtAddr) -> Option<(String, u64)> {
        let linked = self.linked(at);
        if let Some((name, offset)) = self.elf.lookup(linked) {
            return Some((name.to_string(), offset));
        }
        if let Some(found) = self.functions.as_ref().and_then(|f| f.function(at)) {
            return Some(found);
        }
        // `at` may be in a copy of the entry code.
        let copy = self.architecture()?.entry_copy?;
        let moved = self.variable(copy, 4).ok().filter(|d| *d != 0)?;
        let linked = (linked.0 as u32).wrapping_sub(moved as u32);
        let (name, offset) = self.elf.lookup(VirtAddr(linked.into()))?;
        Some((name.to_string(), offset))
    }

    /// Returns the function whose call returns to `at`, and the offset of `at` in it. If the call is
    /// the function's last instruction, `at` is in the next function.
    pub fn caller(&self, at: VirtAddr) -> Option<(String, u64)> {
        let labels = self.architecture().map_or(&[][..], |row| row.traps.labels);
        for label in labels {
            for address in [at, at.wrapping_add(label.slot)] {
                if let Some((name, 0)) = self.function(address)
                    && name == label.name
                {
                    return Some((name, 0));
                }
            }
        }
        let (name, offset) = self.function(at.checked_sub(1)?)?;
        Some((name, offset + 1))
    }

    /// The size of a register in bytes. Some ELF32 kernels have 64-bit registers.
    pub(crate) fn register_size(&self) -> usize {
        let wide = self.architecture().map_or(0, |row| row.wide_registers);
        match self.elf.flags() & wide {
            0 => self.elf.pointer_size(),
            _ => 8,
        }
    }

    /// Converts a register's value to an address. A register wider than a pointer is sign-extended.
    pub(crate) fn address_in(&self, value: u64) -> u64 {
        match self.elf.pointer_size() {
            4 => u64::from(value as u32),
            _ => value,
        }
    }

    /// Whether `at` is mapped.
    pub(crate) fn is_mapped(&self, at: VirtAddr) -> bool {
        self.memory.translate(at).is_ok()
    }

    /// Whether `at` can be in code: in the kernel's text, or possibly in a module.
    ///
    /// If the kernel file has no functions, its text sections decide. If it has no text sections
    /// either, any kernel address is accepted, even if the dump does not have its memory.
    pub(crate) fn is_code(&self, at: VirtAddr) -> bool {
        if self.function(at).is_some() {
            return true;
        }
        let linked = self.linked(at);
        let in_image = self.elf.bytes_at(linked, 1).is_some();
        if !self.elf.has_functions() {
            let text = self.elf.text();
            if text.iter().any(|range| range.contains(&linked)) {
                return true;
            }
            if text.is_empty() {
                // No function is in the last page of the address space.
                let last = VirtAddr(u64::MAX - 0xfff);
                return !in_image && (self.lowest_address()..last).contains(&linked);
            }
        }
        !in_image && linked > self.elf.text_end() && self.is_mapped(at)
    }

    /// The lowest linked address of the kernel.
    fn lowest_address(&self) -> VirtAddr {
        let kernbase = self.elf.symbol("kernbase").filter(|s| s.absolute);
        let known = kernbase
            .map(|s| VirtAddr(s.value))
            .or(self.elf.lowest_address());
        known.unwrap_or(VirtAddr::MAX)
    }
}
