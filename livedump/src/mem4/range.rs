//! Memory ranges.

use std::fmt;

use livecore_defs::PhysAddr;

use crate::sys::memrange::{Mdf, MemRangeDesc};

/// Bytes of an owner's name, including its NUL.
pub const OWNER_LEN: usize = 8;

/// A memory range: physical addresses and their memory type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemRange {
    /// Base address.
    pub base: PhysAddr,
    /// Length in bytes.
    pub len: u64,
    /// Memory type and flags.
    pub flags: Mdf,
    /// The owner, at most 7 bytes; `BIOS` for ranges set at boot.
    pub owner: Owner,
}

/// The name in `mr_owner`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner([u8; OWNER_LEN]);

impl Owner {
    /// A name, truncated to seven bytes or at its first NUL.
    pub fn new(name: &[u8]) -> Self {
        let mut owner = [0; OWNER_LEN];
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let n = name.len().min(OWNER_LEN - 1);
        owner[..n].copy_from_slice(&name[..n]);
        Self(owner)
    }

    /// The name without NULs.
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(OWNER_LEN);
        &self.0[..end]
    }

    /// Whether the name is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().escape_ascii().fmt(f)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl MemRange {
    /// Converts a kernel's descriptor.
    pub fn from_desc(desc: &MemRangeDesc) -> Self {
        Self {
            base: PhysAddr(desc.mr_base),
            len: desc.mr_len,
            flags: Mdf::from_raw(desc.mr_flags),
            owner: Owner::new(&desc.mr_owner),
        }
    }

    /// Converts to a kernel's descriptor.
    pub fn to_desc(&self) -> MemRangeDesc {
        MemRangeDesc {
            mr_base: self.base.0,
            mr_len: self.len,
            mr_flags: self.flags.to_raw(),
            mr_owner: self.owner.0,
            pad: 0,
        }
    }

    /// Whether it has this base and length.
    pub fn is(&self, base: PhysAddr, len: u64) -> bool {
        self.base == base && self.len == len
    }
}

/// The names of memcontrol(8), in the order in which it prints them.
const NAMES: [(Mdf, &str); 12] = [
    (Mdf::UNCACHEABLE, "uncacheable"),
    (Mdf::WRITECOMBINE, "write-combine"),
    (Mdf::WRITETHROUGH, "write-through"),
    (Mdf::WRITEBACK, "write-back"),
    (Mdf::WRITEPROTECT, "write-protect"),
    (Mdf::FORCE, "force"),
    (Mdf::UNKNOWN, "unknown"),
    (Mdf::FIXBASE, "fixed-base"),
    (Mdf::FIXLEN, "fixed-length"),
    (Mdf::FIRMWARE, "set-by-firmware"),
    (Mdf::ACTIVE, "active"),
    (Mdf::BOGUS, "bogus"),
];

/// The memory types and flags that can be requested, with memcontrol(8)'s names.
pub fn settable(name: &str) -> Option<Mdf> {
    const SETTABLE: [Mdf; 7] = [
        Mdf::UNCACHEABLE,
        Mdf::WRITECOMBINE,
        Mdf::WRITETHROUGH,
        Mdf::WRITEBACK,
        Mdf::WRITEPROTECT,
        Mdf::FORCE,
        Mdf::ACTIVE,
    ];
    NAMES
        .iter()
        .find(|(flag, known)| *known == name && SETTABLE.contains(flag))
        .map(|(flag, _)| *flag)
}

/// memcontrol(8)'s names of the flags that are set; some flags have none.
pub fn names(flags: Mdf) -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .filter(move |(flag, _)| flags.contains(*flag))
        .map(|(_, name)| *name)
}

impl fmt::Display for MemRange {
    /// The line of `memcontrol list`, with its trailing space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = if self.owner.is_empty() {
            "-".to_owned()
        } else {
            self.owner.to_string()
        };
        write!(f, "{:#x}/{:#x} {owner} ", self.base, self.len)?;
        names(self.flags).try_for_each(|name| write!(f, "{name} "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_printed_like_memcontrol_does() {
        let mut range = MemRange {
            base: PhysAddr(0xc000_0000),
            len: 0x4000_0000,
            flags: Mdf::UNCACHEABLE | Mdf::FIRMWARE | Mdf::ACTIVE | Mdf::BUSY,
            owner: Owner::new(b"BIOS"),
        };
        assert_eq!(
            range.to_string(),
            "0xc0000000/0x40000000 BIOS uncacheable set-by-firmware active "
        );
        range.owner = Owner::default();
        range.flags = Mdf::default();
        assert_eq!(range.to_string(), "0xc0000000/0x40000000 - ");
    }

    #[test]
    fn descriptors_convert_back_and_owners_have_seven_bytes() {
        let range = MemRange {
            base: PhysAddr(1 << 40),
            len: 4096,
            flags: Mdf::WRITEBACK | Mdf::FORCE,
            owner: Owner::new(b"another owner"),
        };
        assert_eq!(range.owner.to_string(), "another");
        assert_eq!(MemRange::from_desc(&range.to_desc()), range);
        assert_eq!(range.to_desc().mr_flags, i32::MIN + 8);
    }

    #[test]
    fn flags_that_only_a_kernel_sets_are_refused() {
        assert_eq!(settable("write-back"), Some(Mdf::WRITEBACK));
        assert_eq!(settable("active"), Some(Mdf::ACTIVE));
        assert_eq!(settable("set-by-firmware"), None);
        assert_eq!(settable("unknown"), None);
    }
}
