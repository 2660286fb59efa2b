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

use crate::{ctf, dwarf};
use livecore_minidump::{Error, KernelElf};

/// The most members that are looked at for one structure, those of structures inside it included.
const MEMBERS_LIMIT: u32 = 1 << 16;
/// How deep structures are looked into that lie in one another.
pub(super) const DEPTH_LIMIT: u32 = 6;

/// Where a member lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the structure; of a bit-field, the byte that it begins in.
    pub offset: u64,
    /// Bytes; 0 if the file does not say, and for bit-fields.
    pub size: u64,
}

/// Who knew a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `.SUNW_ctf`
    Ctf,
    /// `.debug_info`
    Dwarf,
}

/// A structure or union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// `sizeof`
    pub size: u64,
    /// Who knew it.
    pub source: Source,
    members: BTreeMap<String, Member>,
}

impl Structure {
    /// The member of this name. Members of a structure inside are named with a dot (`a.flags`);
    /// those of one without a name as if they were the outer one's, as in C.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).copied()
    }

    /// Every member, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, Member)> + '_ {
        self.members.iter().map(|(name, at)| (name.as_str(), *at))
    }
}

/// The members of one structure while they are being listed.
pub(super) struct Listing {
    members: BTreeMap<String, Member>,
    left: u32,
}

impl Listing {
    pub(super) fn new() -> Self {
        Self {
            members: BTreeMap::new(),
            left: MEMBERS_LIMIT,
        }
    }

    /// Whether one more entry may be looked at: structures that lie in one another can be made to
    /// have members without end.
    pub(super) fn step(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Adds a member, unless its name is there already.
    pub(super) fn add(&mut self, name: String, member: Member) {
        self.members.entry(name).or_insert(member);
    }

    pub(super) fn finish(self, size: u64, source: Source) -> Structure {
        Structure {
            size,
            source,
            members: self.members,
        }
    }
}

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
