//! A structure of the kernel: its members and where they lie.

use std::collections::BTreeMap;

/// The most members that are looked at for one structure, those of structures inside it included.
const MEMBERS_LIMIT: u32 = 1 << 16;
/// How deep structures are looked into that lie in one another.
pub(crate) const DEPTH_LIMIT: u32 = 6;

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

    /// Whether one more entry may be looked at: structures that lie in one another can be made to
    /// have members without end.
    pub(crate) fn step(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Adds a member, unless its name is there already.
    pub(crate) fn add(&mut self, name: String, member: Member) {
        self.members.entry(name).or_insert(member);
    }

    pub(crate) fn finish(self, size: u64, source: Source) -> Structure {
        Structure {
            size,
            source,
            members: self.members,
        }
    }
}
