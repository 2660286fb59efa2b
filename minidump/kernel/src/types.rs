//! Where the members of a kernel's structures lie: one question, answered by whatever the kernel's
//! file has.
//!
//! ```text
//!  .SUNW_ctf   CTF, versions 2 and 3: what a stock kernel has           ctf
//!  .debug_*    DWARF 2 to 5: kernels with debug information, kernel.debug   dwarf
//! ```
//!
//! CTF is asked first, being small; DWARF for what CTF does not know. A stripped kernel has
//! neither: then [`Types`] is empty, and callers have what the kernel exports as integers
//! (`proc_off_p_pid`, …) and the layouts of known releases, which they check before they believe
//! them. What the file says is not believed either where memory can contradict it.

use std::collections::BTreeMap;

use livecore_minidump::{Error, KernelElf};

use crate::structure::{Member, Structure};
use crate::{ctf, dwarf};

/// The structures that processes and threads are told better with: what to ask [`Types::read`] for.
pub const STRUCTURES: [&str; 2] = ["proc", "thread"];

/// What a kernel's file knows of some structures.
#[derive(Debug, Clone, Default)]
pub struct Types {
    structures: BTreeMap<String, Structure>,
    /// Why type information that is there could not be read, in words.
    pub problems: Vec<String>,
}

impl Types {
    /// Asks `elf` for the structures and unions named `wanted`, without `struct`.
    ///
    /// Time is linear in the type information, and memory is that information: at most 64 MiB of
    /// CTF, 512 MiB of DWARF. Neither stays.
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

    /// The structure of this name, if the file knows it.
    pub fn structure(&self, name: &str) -> Option<&Structure> {
        self.structures.get(name)
    }

    /// The member of a structure.
    pub fn member(&self, structure: &str, member: &str) -> Option<Member> {
        self.structure(structure)?.member(member)
    }
}
