//! The list of loaded kernel files: the kernel and its modules, in load order.
//!
//! The list is `linker_files`, of `struct linker_file` (FreeBSD `sys/sys/linker.h`). Kernels since
//! 10 export the offsets of its members as `kld_off_*`. `size` has no exported offset; it directly
//! follows `address`.

use std::collections::HashSet;

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::loaded::TableBudget;
use crate::module::{Module, Modules};
use livecore_minidump::VirtAddr;

/// The maximum number of files. It also ends a circular list.
const LIMIT: usize = 4096;

/// Offsets in `struct linker_file`.
struct Offsets {
    address: u64,
    filename: u64,
    pathname: u64,
    next: u64,
    id: u64,
}

impl Offsets {
    /// Returns the exported offsets. Where one is missing, uses the offset that all releases have.
    fn read(kernel: &Kernel<'_>) -> Self {
        let usual = if kernel.elf().is_64() {
            Self {
                next: 24,
                filename: 40,
                pathname: 48,
                id: 56,
                address: 64,
            }
        } else {
            Self {
                next: 16,
                filename: 24,
                pathname: 28,
                id: 32,
                address: 36,
            }
        };
        let get = |name, usual| kernel.variable(name, 4).unwrap_or(usual);
        Self {
            address: get("kld_off_address", usual.address),
            filename: get("kld_off_filename", usual.filename),
            pathname: get("kld_off_pathname", usual.pathname),
            next: get("kld_off_next", usual.next),
            id: usual.id,
        }
    }
}

impl Kernel<'_> {
    /// Returns the loaded kernel files.
    ///
    /// If a list entry cannot be read, the result has the files before it and a problem.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel has no symbol `linker_files` or the list head cannot be read.
    pub fn modules(&self) -> Result<Modules, KernelError> {
        let head = self.address("linker_files")?;
        let offsets = Offsets::read(self);
        let word = self.elf().pointer_size();
        let own = self
            .address("linker_kernel_file")
            .and_then(|at| self.pointer_at("linker_kernel_file", at))
            .unwrap_or_default();
        let mut found = Modules::default();
        let mut budget = TableBudget::new();
        let mut seen = HashSet::new();
        let mut at = self.pointer_at("linker_files", head)?;
        while at != VirtAddr(0) {
            if !seen.insert(at) || seen.len() > LIMIT {
                let what =
                    format!("linker_files: list is circular or has more than {LIMIT} entries");
                found.problems.push(what);
                break;
            }
            match self.module(at, &offsets, word) {
                Ok((mut module, next)) => {
                    module.is_kernel = match own {
                        VirtAddr(0) => found.list.is_empty(),
                        own => own == at,
                    };
                    if !module.is_kernel {
                        let after_size = at.wrapping_add(offsets.address + 2 * word as u64);
                        let functions = self.loaded_functions(&module, after_size, &mut budget);
                        found.functions.extend(functions);
                    }
                    found.list.push(module);
                    at = next;
                }
                Err(error) => {
                    found.problems.push(error.to_string());
                    break;
                }
            }
        }
        found.functions.sort();
        Ok(found)
    }

    fn module(
        &self,
        at: VirtAddr,
        offsets: &Offsets,
        word: usize,
    ) -> Result<(Module, VirtAddr), KernelError> {
        let field = |offset: u64| at.wrapping_add(offset);
        let next = self.pointer_at("linker_file, next", field(offsets.next))?;
        let address = self.pointer_at("linker_file, address", field(offsets.address))?;
        let size = field(offsets.address).wrapping_add(word as u64);
        let size = self.long_at("linker_file, size", size)?;
        let name = self.pointer_at("linker_file, filename", field(offsets.filename))?;
        let path = self.pointer_at("linker_file, pathname", field(offsets.pathname))?;
        let id = self.uint_at("linker_file, id", field(offsets.id), 4)?;
        let module = Module {
            at,
            name: self.string_at(name),
            path: self.string_at(path),
            id: id as u32, // 4 bytes were read
            address,
            size,
            is_kernel: false,
        };
        Ok((module, next))
    }
}
