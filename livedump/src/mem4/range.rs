//! Memory ranges in safe terms.

use std::fmt;

use crate::sys::memrange::{Mdf, MemRangeDesc};

/// Bytes of an owner's name, its NUL included.
pub const OWNER_LEN: usize = 8;

/// One memory range: a stretch of physical addresses and how it is cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemRange {
    /// Physical base address, bytes.
    pub base: u64,
    /// Length, bytes.
    pub len: u64,
    /// Attributes and flags.
    pub flags: Mdf,
    /// Who claimed it, at most 7 bytes; `BIOS` for what was there at boot.
    pub owner: Owner,
}

/// The name in `mr_owner`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner([u8; OWNER_LEN]);

impl Owner {
    /// A name, cut at seven bytes or its first NUL.
    pub fn new(name: &[u8]) -> Self {
        let mut owner = [0; OWNER_LEN];
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        let n = name.len().min(OWNER_LEN - 1);
        owner[..n].copy_from_slice(&name[..n]);
        Self(owner)
    }

    /// The name's bytes, without NULs.
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(OWNER_LEN);
        &self.0[..end]
    }

    /// Whether there is no name.
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
    /// From a kernel's descriptor.
    pub fn from_desc(desc: &MemRangeDesc) -> Self {
        Self {
            base: desc.mr_base,
            len: desc.mr_len,
            flags: Mdf::from_raw(desc.mr_flags),
            owner: Owner::new(&desc.mr_owner),
        }
    }

    /// As a kernel's descriptor.
    pub fn to_desc(&self) -> MemRangeDesc {
        MemRangeDesc {
            mr_base: self.base,
            mr_len: self.len,
            mr_flags: self.flags.to_raw(),
            mr_owner: self.owner.0,
            pad: 0,
        }
    }

    /// Whether it begins and ends where `base` and `len` say.
    pub fn is(&self, base: u64, len: u64) -> bool {
        self.base == base && self.len == len
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, base: u64, len: u64) -> bool {
        // Ends may be beyond 2^64.
        let end = |base: u64, len: u64| u128::from(base) + u128::from(len);
        u128::from(self.base) < end(base, len) && u128::from(base) < end(self.base, self.len)
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

/// The attributes and flags that a person may set, by the names of memcontrol(8).
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

/// The names of the flags that are set, as memcontrol(8) has them; some flags have none.
pub fn names(flags: Mdf) -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .filter(move |(flag, _)| flags.contains(*flag))
        .map(|(_, name)| *name)
}

impl fmt::Display for MemRange {
    /// The line of `memcontrol list`, its trailing space included.
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
    fn a_range_prints_as_memcontrol_prints_it() {
        let mut range = MemRange {
            base: 0xc000_0000,
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
    fn descriptors_come_back_and_owners_have_seven_bytes() {
        let range = MemRange {
            base: 1 << 40,
            len: 4096,
            flags: Mdf::WRITEBACK | Mdf::FORCE,
            owner: Owner::new(b"somebody else"),
        };
        assert_eq!(range.owner.to_string(), "somebod");
        assert_eq!(MemRange::from_desc(&range.to_desc()), range);
        assert_eq!(range.to_desc().mr_flags, i32::MIN + 8);
    }

    #[test]
    fn names_that_only_a_kernel_sets_cannot_be_set() {
        assert_eq!(settable("write-back"), Some(Mdf::WRITEBACK));
        assert_eq!(settable("active"), Some(Mdf::ACTIVE));
        assert_eq!(settable("set-by-firmware"), None);
        assert_eq!(settable("unknown"), None);
    }

    #[test]
    fn ranges_at_the_end_of_the_address_space_overlap_without_wrapping() {
        let range = MemRange {
            base: 0xffff_ffff_ffff_f000,
            len: 0x1000,
            flags: Mdf::default(),
            owner: Owner::default(),
        };
        assert!(range.overlaps(0, u64::MAX));
        assert!(!range.overlaps(0, 0x1000));
        assert!(range.overlaps(0xffff_ffff_ffff_ffff, 1));
    }
}
