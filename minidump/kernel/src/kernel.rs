//! A kernel: memory, and the symbols that say what is where in it.

use std::sync::Arc;

use livecore_minidump::{Architecture, Dump, KernelElf, KernelMemory, VirtAddr};

use crate::error::KernelError;
use crate::shared::Shared;
use crate::types::{STRUCTURES, Types};

/// Who knows functions that the kernel's own file does not have: those of loaded kernel files.
pub trait Functions: Send + Sync {
    /// The function that `at` lies in, and how far; `None` if `at` is in no loaded file.
    fn function(&self, at: u64) -> Option<(String, u64)>;
}

impl<F: Functions + ?Sized> Functions for &F {
    fn function(&self, at: u64) -> Option<(String, u64)> {
        (**self).function(at)
    }
}

impl<F: Functions + ?Sized> Functions for Arc<F> {
    fn function(&self, at: u64) -> Option<(String, u64)> {
        (**self).function(at)
    }
}

/// A kernel: its memory and the symbols that say what is where.
///
/// It borrows them (`Kernel<'a>`) or shares them (`Kernel<'static>`). A clone is another view of the
/// same kernel.
#[derive(Clone)]
pub struct Kernel<'a> {
    memory: Arc<dyn KernelMemory + 'a>,
    elf: Shared<'a, KernelElf>,
    types: Option<Shared<'a, Types>>,
    functions: Option<Arc<dyn Functions + 'a>>,
    displacement: u64,
}

/// How far from where its file says the kernel of a dump runs, modulo 2^64.
pub(crate) fn displacement(dump: &Dump) -> u64 {
    let header = dump.header();
    let linked = header.arch.linked_at;
    linked.map_or(0, |linked| header.startkernel.wrapping_sub(linked))
}

impl<'a> Kernel<'a> {
    /// The kernel in `memory` whose symbols are in `elf`.
    pub fn new(memory: impl KernelMemory + 'a, elf: impl Into<Shared<'a, KernelElf>>) -> Self {
        Self {
            memory: Arc::new(memory),
            elf: elf.into(),
            types: None,
            functions: None,
            displacement: 0,
        }
    }

    /// The kernel of a dump: that of powerpc64 runs elsewhere than its file says, and the dump says
    /// where.
    pub fn of_dump(dump: &'a Dump, elf: impl Into<Shared<'a, KernelElf>>) -> Self {
        Self::new(dump, elf).displaced(displacement(dump))
    }

    /// With type information about [`STRUCTURES`], which tells what is not
    /// exported.
    #[must_use]
    pub fn with_types(self, types: impl Into<Shared<'a, Types>>) -> Self {
        Self {
            types: Some(types.into()),
            ..self
        }
    }

    /// With the functions of loaded kernel files.
    #[must_use]
    pub fn with_functions(self, functions: impl Functions + 'a) -> Self {
        Self {
            functions: Some(Arc::new(functions)),
            ..self
        }
    }

    /// With what takes time to read: type information about [`STRUCTURES`], and the functions of
    /// loaded modules, where the kernel has a list of those.
    #[must_use]
    pub fn detailed(self) -> Self {
        let types = Types::read(&self.elf, &STRUCTURES);
        let kernel = self.with_types(Arc::new(types));
        // Kernels without the list have functions of their own all the same.
        let modules = kernel.modules().unwrap_or_default();
        kernel.with_functions(modules)
    }

    /// At other addresses than it was linked for: all of them higher by `displacement`, modulo
    /// 2^64. That of powerpc64 is `startkernel` minus the address its file begins at.
    #[must_use]
    pub fn displaced(self, displacement: u64) -> Self {
        Self {
            displacement,
            ..self
        }
    }

    /// Its symbols.
    pub fn elf(&self) -> &KernelElf {
        &self.elf
    }

    /// Its architecture, if that is one whose kernels are dumped.
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

    /// The address that the kernel's file has for what is at `at`.
    pub(crate) fn linked(&self, at: u64) -> u64 {
        at.wrapping_sub(self.displacement)
    }

    /// Where the kernel has what its file has at `linked`.
    pub(crate) fn placed(&self, linked: u64) -> u64 {
        linked.wrapping_add(self.displacement)
    }

    /// The address of a variable.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoSymbol`] if the kernel's file has no such variable.
    pub fn address(&self, name: &str) -> Result<u64, KernelError> {
        self.elf
            .symbol(name)
            .filter(|s| !s.absolute)
            .map(|s| self.placed(s.value))
            .ok_or_else(|| KernelError::NoSymbol(name.into()))
    }

    /// The unsigned integer of `len` bytes (1, 2, 4 or 8) at `at`, which errors call `what`.
    ///
    /// # Errors
    ///
    /// [`KernelError::Unreadable`] if the memory is not there.
    pub fn uint_at(&self, what: &str, at: u64, len: usize) -> Result<u64, KernelError> {
        let mut bytes = [0; 8];
        let len = len.min(8);
        self.bytes_at(what, at, &mut bytes[..len])?;
        // Other lengths than those named are none of the callers' here.
        Ok(self.elf.order().uint(&bytes[..len]).unwrap_or(0))
    }

    /// The pointer, or the `long`, at `at`.
    ///
    /// # Errors
    ///
    /// [`KernelError::Unreadable`] if the memory is not there.
    pub fn pointer_at(&self, what: &str, at: u64) -> Result<u64, KernelError> {
        self.uint_at(what, at, self.elf.pointer_size())
    }

    /// Fills `buf` from `at`.
    ///
    /// # Errors
    ///
    /// [`KernelError::Unreadable`] if the memory is not there.
    pub fn bytes_at(&self, what: &str, at: u64, buf: &mut [u8]) -> Result<(), KernelError> {
        let at = VirtAddr(at);
        self.memory
            .read_virt(at, buf)
            .map_err(|source| KernelError::Unreadable {
                what: what.into(),
                at,
                source,
            })
    }

    /// The variable `name`, an integer of `len` bytes.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoSymbol`], or [`KernelError::Unreadable`] if the memory is not there.
    pub fn variable(&self, name: &str, len: usize) -> Result<u64, KernelError> {
        self.uint_at(name, self.address(name)?, len)
    }

    /// The variable `name`, a pointer or a `long`.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoSymbol`], or [`KernelError::Unreadable`] if the memory is not there.
    pub fn pointer(&self, name: &str) -> Result<u64, KernelError> {
        self.pointer_at(name, self.address(name)?)
    }

    /// `__FreeBSD_version`, if `osreldate` is there and is one: 10.0 to 99.x.
    pub fn osreldate(&self) -> Option<u32> {
        let value = u32::try_from(self.variable("osreldate", 4).ok()?).ok()?;
        (1_000_000..100_000_000).contains(&value).then_some(value)
    }

    /// The function that `at` lies in, and how far.
    pub fn function(&self, at: u64) -> Option<(String, u64)> {
        let linked = self.linked(at);
        if let Some((name, offset)) = self.elf.lookup(linked) {
            return Some((name.to_string(), offset));
        }
        if let Some(found) = self.functions.as_ref().and_then(|f| f.function(at)) {
            return Some(found);
        }
        // In a copy of the entry code.
        let copy = self.architecture()?.entry_copy?;
        let moved = self.variable(copy, 4).ok().filter(|d| *d != 0)?;
        let linked = (linked as u32).wrapping_sub(moved as u32);
        let (name, offset) = self.elf.lookup(u64::from(linked))?;
        Some((name.to_string(), offset))
    }

    /// The function that calls something and goes on at `at`, and how far that is. The call may be
    /// a function's last instruction: then `at` lies in the next one already.
    pub fn caller(&self, at: u64) -> Option<(String, u64)> {
        let labels = self.architecture().map_or(&[][..], |row| row.traps.labels);
        for label in labels {
            for behind in [at, at.wrapping_add(label.slot)] {
                if let Some((name, 0)) = self.function(behind)
                    && name == label.name
                {
                    return Some((name, 0));
                }
            }
        }
        let (name, offset) = self.function(at.checked_sub(1)?)?;
        Some((name, offset + 1))
    }

    /// Bytes of a register. Some kernels that are ELF32 have 64-bit ones.
    pub(crate) fn register_size(&self) -> usize {
        let wide = self.architecture().map_or(0, |row| row.wide_registers);
        match self.elf.flags() & wide {
            0 => self.elf.pointer_size(),
            _ => 8,
        }
    }

    /// A register's value as an address: a wider register than a pointer has it with its sign.
    pub(crate) fn address_in(&self, value: u64) -> u64 {
        match self.elf.pointer_size() {
            4 => u64::from(value as u32),
            _ => value,
        }
    }

    /// Whether something is mapped at `at`.
    pub(crate) fn is_mapped(&self, at: u64) -> bool {
        self.memory.translate(VirtAddr(at)).is_ok()
    }

    /// Whether code can be at `at`: in the kernel's text, or in what may be a loaded file.
    ///
    /// A kernel file that names no function tells by its sections. One that has no text either
    /// leaves the kernel's own addresses: what is there need not be in the dump.
    pub(crate) fn is_code(&self, at: u64) -> bool {
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
                // No function ends where the address space does.
                let last = u64::MAX - 0xfff;
                return !in_image && (self.lowest_address()..last).contains(&linked);
            }
        }
        !in_image && linked > self.elf.text_end() && self.is_mapped(at)
    }

    /// The lowest address of the kernel, as it was linked.
    fn lowest_address(&self) -> u64 {
        let kernbase = self.elf.symbol("kernbase").filter(|s| s.absolute);
        let known = kernbase.map(|s| s.value).or(self.elf.lowest_address());
        known.unwrap_or(u64::MAX)
    }
}
