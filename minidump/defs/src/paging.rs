//! Page tables as data: levels, and what their entries say.
//!
//! The tables of a machine are a tree, walked from a root. A minidump has a flat [`Section`] instead:
//! entries of one level, one behind the other.

use std::fmt;

/// A form of page tables.
pub struct Geometry {
    /// Its name: the processor's own, or the port's.
    pub name: &'static str,
    /// Bytes of an entry: 4 or 8.
    pub entry_size: usize,
    /// From the root down; the last one's entries map pages.
    pub levels: &'static [Level],
    /// Where an entry has the address of what it leads to.
    pub frame: Frame,
    /// Entries that allow writing.
    pub write: Bits,
    /// Entries that allow executing.
    pub execute: Bits,
    /// Whether an entry that leads to a table restricts what the table allows.
    pub restricts: bool,
    /// Where a process's addresses end, if these tables have processes with a tree of their own.
    pub user_end: Option<u64>,
}

/// One level of tables.
#[derive(Debug)]
pub struct Level {
    /// The lowest bit of an address that the index is taken from.
    pub shift: u32,
    /// Entries of a table: a power of two.
    pub entries: u64,
    /// What errors say of an address whose entry maps nothing.
    pub missing: &'static str,
    /// What an entry means: the first rule that it fits counts, and without one it maps nothing.
    pub rules: &'static [Rule],
}

/// An entry whose bits `mask` are `value` means this.
#[derive(Debug)]
pub struct Rule {
    /// Bits of the entry.
    pub mask: u64,
    /// What they are.
    pub value: u64,
    /// What the entry means.
    pub means: Means,
}

/// What an entry means.
#[derive(Debug)]
pub enum Means {
    /// It leads to a table of the next level.
    Table,
    /// It maps what an entry of its level covers: a page or a block.
    Leaf,
    /// It is one of several equal entries that together map a large page.
    Large(Large),
    /// It is of a kind that nothing reads; errors say this.
    Refused(&'static str),
}

/// A page that several entries map (32-bit arm).
#[derive(Debug)]
pub struct Large {
    /// Bytes of it.
    pub span: u64,
    /// Entries that allow executing.
    pub execute: Bits,
}

/// Where an entry has an address: bits `mask`, shifted down by `down`, then up by `up`.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Bits of the entry.
    pub mask: u64,
    /// Shift to the right.
    pub down: u32,
    /// Shift to the left.
    pub up: u32,
}

impl Frame {
    /// The address lies in place.
    pub(crate) const fn in_place(mask: u64) -> Self {
        Self {
            mask,
            down: 0,
            up: 0,
        }
    }
}

/// A permission: entries have it that have one of the bits `mask` set, or none of them.
#[derive(Debug, Clone, Copy)]
pub struct Bits {
    /// Bits of the entry.
    pub mask: u64,
    /// Whether one has to be set, or none may be.
    pub set: bool,
}

impl Bits {
    /// Every entry has the permission.
    pub(crate) const ALWAYS: Self = none_of(0);
}

pub(crate) const fn any_of(mask: u64) -> Bits {
    Bits { mask, set: true }
}

pub(crate) const fn none_of(mask: u64) -> Bits {
    Bits { mask, set: false }
}

pub(crate) const fn level(
    shift: u32,
    entries: u64,
    missing: &'static str,
    rules: &'static [Rule],
) -> Level {
    Level {
        shift,
        entries,
        missing,
        rules,
    }
}

pub(crate) const fn rule(mask: u64, value: u64, means: Means) -> Rule {
    Rule { mask, value, means }
}

impl Level {
    /// Bytes that an entry maps.
    pub const fn span(&self) -> u64 {
        1 << self.shift
    }

    /// The offset of the entry for `at` in its table, in entries.
    pub const fn index(&self, at: u64) -> u64 {
        at >> self.shift & (self.entries - 1)
    }

    /// The physical address of `at`, which an entry with this frame maps. Bits of the frame below
    /// the span mean nothing.
    pub const fn address(&self, frame: u64, at: u64) -> u64 {
        let inside = self.span() - 1;
        (frame & !inside) | (at & inside)
    }
}

impl Geometry {
    /// The level whose entries map pages.
    pub fn bottom(&self) -> &Level {
        // Every form has a level.
        &self.levels[self.levels.len() - 1]
    }

    /// The level above it; itself if it is the only one.
    pub fn directory(&self) -> &Level {
        &self.levels[self.levels.len().saturating_sub(2)]
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u64 {
        self.bottom().span()
    }
}

impl PartialEq for Geometry {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.name == other.name
    }
}

impl Eq for Geometry {}

impl fmt::Debug for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Which minidumps of an architecture something is true of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// All of them.
    Always,
    /// Those of this version.
    Version(u32),
    /// Those with pages of this size.
    PageSize(u64),
    /// Those whose `paemode` is not zero.
    PaeMode,
    /// Those whose `mmuformat` is from the first to the last.
    MmuFormat(u32, u32),
    /// Those of kernels whose pointers have these many bytes.
    Word(usize),
}

/// The page-table section of a minidump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// An entry of the last level for every page from `kernbase` on.
    Pages(&'static Geometry),
    /// An entry of the level above it for every table from `kernbase` on; the tables are pages of the
    /// dump.
    Directories(&'static Geometry),
    /// A hashed page table, all of it (powerpc64).
    Hashed,
    /// Entries of these many bytes that nothing reads; errors say why.
    Unread(usize, &'static str),
}

/// The direct map of an architecture's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direct {
    /// There is none.
    None,
    /// From the header's `dmapbase` to `dmapend`, which physical memory from `dmapphys` on is mapped
    /// at.
    Linear {
        /// Whether it is asked before the kernel map.
        first: bool,
        /// Whether `dmapend` is its last address, not the one behind it.
        inclusive: bool,
    },
    /// What the hardware maps.
    Windows(&'static [Window]),
}

/// Addresses that the hardware maps to physical ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Whose kernels have it.
    pub when: When,
    /// Its first address.
    pub start: u64,
    /// Its last address.
    pub last: u64,
    /// Bits of an address that are physical.
    pub mask: u64,
    /// Where the kernel itself finds physical memory, if it is in this window.
    pub home: Option<u64>,
}
