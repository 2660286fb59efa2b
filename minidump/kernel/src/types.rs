//! Type information of a kernel file.
//!
//! ```text
//!  .SUNW_ctf   CTF, versions 2 and 3: stock kernels                         ctf
//!  .debug_*    DWARF 2 to 5: kernels with debug information, kernel.debug   dwarf
//! ```
//!
//! CTF is read first, because it is small. DWARF is read for structures that CTF does not have. A
//! stripped kernel has neither, and [`Types`] is empty. Callers then use the offsets that the kernel
//! exports as integers (`proc_off_p_pid`, …) and the layouts of known releases. They validate them,
//! and also the offsets from type information, against memory where possible.

use std::collections::BTreeMap;

use livecore_minidump::{Error, KernelElf};

use crate::structure::{Member, Structure};
use crate::{ctf, dwarf};

/// The structures to read with [`Types::read`] for full information about processes and threads.
pub const STRUCTURES: [&str; 2] = ["proc", "thread"];

/// Type information about some structures.
#[derive(Debug, Clone, Default)]
pub struct Types {
    structures: BTreeMap<String, Structure>,
    /// Messages about type information that could not be read.
    pub problems: Vec<String>,
}

impl Types {
    /// Reads the structures and unions named `wanted` (without `struct`) from `elf`.
    ///
    /// Time is linear in the size of the type information. All of it is in memory during the call: at
    /// most [`KernelElf::memory`], 64 MiB of CTF, and 512 MiB of DWARF.
    pub fn read(elf: &KernelElf, wanted: &[&str]) -> Self {
        let mut types = Self::default();
        types.take(".SUNW_ctf", ctf::structures(elf, wanted));
        let left = types.missing(wanted);
        if !left.is_empty() {
            types.take(".debug_info", dwarf::structures(elf, &left));
        }
        types
    }

    fn take(&mut self, section: &str, found: Result<BTreeMap<String, Structure>, Error>) {
        match found {
            Ok(found) => self.structures.extend(found),
            Err(error) => self.problems.push(format!("{section}: {error}")),
        }
    }

    fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        let known = |name: &&&str| !self.structures.contains_key(**name);
        wanted.iter().filter(known).copied().collect()
    }

    /// Returns the structure with this name, if known.
    pub fn structure(&self, name: &str) -> Option<&Structure> {
        self.structures.get(name)
    }

    /// Returns a member of a structure, if known.
    pub fn member(&self, structure: &str, member: &str) -> Option<Member> {
        self.structure(structure)?.member(member)
    }
}
