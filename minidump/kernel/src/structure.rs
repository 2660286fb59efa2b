//! Kernel structures and the offsets of their members.

use std::collections::BTreeMap;

/// The maximum number of members of one structure, including those of nested structures.
const MEMBERS_LIMIT: u32 = 1 << 16;
/// The maximum depth of nested structures.
pub(crate) const DEPTH_LIMIT: u32 = 6;

/// The offset and size of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The offset in bytes from the start of the structure. For a bit-field, the byte of its first
    /// bit.
    pub offset: u64,
    /// The size in bytes, or 0 if it is unknown or the member is a bit-field.
    pub size: u64,
}

/// The source of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeSource {
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
    /// The source of the definition.
    pub source: TypeSource,
    members: BTreeMap<String, Member>,
}

impl Structure {
    /// Returns the member `name`. The name of a member of a nested structure has a dot (`a.flags`).
    /// Members of an anonymous structure belong to the outer one, as in C.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).copied()
    }

    /// All members, sorted by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, Member)> + '_ {
        self.members.iter().map(|(name, at)| (name.as_str(), *at))
    }
}

/// Collects the members of one structure.
pub(crate) struct Listing {
    members: BTreeMap<String, Member>,
    left: u32,
}

impl Listing {
    pub(crate) fn new() -> Self {
        Self {
            members: BTreeMap::new(),
            left: MEMBERS_LIMIT,
        }
    }

    /// Returns whether another entry may be read. The limit ends the expansion of nested structures
    /// in crafted files.
    pub(crate) fn step(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Adds a member, unless one with its name exists.
    pub(crate) fn add(&mut self, name: String, member: Member) {
        self.members.entry(name).or_insert(member);
    }

    pub(crate) fn finish(self, size: u64, source: TypeSource) -> Structure {
        Structure {
            size,
            source,
            members: self.members,
        }
    }
}
