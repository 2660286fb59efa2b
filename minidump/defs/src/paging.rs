//! Page-table formats as data: levels and the meaning of their entries.
//!
//! The tables of a machine are a tree, walked from a root. A minidump has a flat [`Section`] instead,
//! with the entries of one level in order of address.

use std::fmt;

use crate::{PhysAddr, VirtAddr};

/// A page-table format.
pub struct Geometry {
    /// The format's name: that of the processor or the port.
    pub name: &'static str,
    /// Size of an entry: 4 or 8 bytes.
    pub entry_size: usize,
    /// Levels from the root down; entries of the last one map pages.
    pub levels: &'static [Level],
    /// The address in an entry.
    pub frame: Frame,
    /// Entries that permit writing.
    pub write: Bits,
    /// Entries that permit execution.
    pub execute: Bits,
    /// Whether an entry that points to a table restricts the table's permissions.
    pub restricts: bool,
    /// End of user addresses, if processes have tables of this format.
    pub user_end: Option<VirtAddr>,
}

/// One level of tables.
#[derive(Debug)]
pub struct Level {
    /// Lowest bit of the index in an address.
    pub shift: u32,
    /// Number of entries of a table: a power of two.
    pub entries: u64,
    /// Text of errors about an address whose entry maps nothing.
    pub missing: &'static str,
    /// The meaning of entries: that of the first rule that matches. An entry without one maps nothing.
    pub rules: &'static [Rule],
}

/// The meaning of entries whose bits in `mask` equal `value`.
#[derive(Debug)]
pub struct Rule {
    /// Mask of the entry's bits.
    pub mask: u64,
    /// Value of these bits.
    pub value: u64,
    /// The meaning.
    pub means: Means,
}

/// The meaning of an entry.
#[derive(Debug)]
pub enum Means {
    /// The entry points to a table of the next level.
    Table,
    /// The entry maps a page or a block.
    Leaf,
    /// The entry is one of several equal ones that together map a large page.
    Large(Large),
    /// The entry maps a page or a block whose address is this frame, not that of the format.
    LeafAt(Frame),
    /// The entry is of an unsupported kind; the text is for errors.
    Refused(&'static str),
}

/// A page that several entries map (32-bit arm).
#[derive(Debug)]
pub struct Large {
    /// Size of the page.
    pub span: u64,
    /// Entries that permit execution.
    pub execute: Bits,
}

/// The address in an entry: the bits in `mask`, shifted right by `down`, then left by `up`, and the bits
/// in `high`, shifted left by `high_up`.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Mask of the entry's bits.
    pub mask: u64,
    /// Shift to the right.
    pub down: u32,
    /// Shift to the left.
    pub up: u32,
    /// Mask of the entry's bits that are the highest bits of the address.
    pub high: u64,
    /// Shift of these bits to the left.
    pub high_up: u32,
}

impl Frame {
    /// An address without shifts.
    pub(crate) const fn in_place(mask: u64) -> Self {
        Self::shifted(mask, 0, 0)
    }

    /// An address with shifts.
    pub(crate) const fn shifted(mask: u64, down: u32, up: u32) -> Self {
        Self {
            mask,
            down,
            up,
            high: 0,
            high_up: 0,
        }
    }

    /// The address in the entry `raw`.
    pub const fn address(self, raw: u64) -> PhysAddr {
        PhysAddr((raw & self.mask) >> self.down << self.up | (raw & self.high) << self.high_up)
    }
}

/// A permission, which an entry grants by having any of the bits in `mask` set, or all of them clear.
#[derive(Debug, Clone, Copy)]
pub struct Bits {
    /// Mask of the entry's bits.
    pub mask: u64,
    /// Whether a bit must be set; otherwise all must be clear.
    pub set: bool,
}

impl Bits {
    /// Every entry grants the permission.
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
    /// Size of the range that an entry maps.
    pub const fn span(&self) -> u64 {
        1 << self.shift
    }

    /// Index of the entry for `at` in its table.
    pub const fn index(&self, at: VirtAddr) -> u64 {
        at.0 >> self.shift & (self.entries - 1)
    }

    /// The physical address of `at`, which an entry with this frame maps. Bits of the frame below
    /// the span are ignored.
    pub const fn address(&self, frame: PhysAddr, at: VirtAddr) -> PhysAddr {
        let inside = self.span() - 1;
        PhysAddr((frame.0 & !inside) | (at.0 & inside))
    }
}

impl Geometry {
    /// The level whose entries map pages.
    pub fn bottom(&self) -> &Level {
        // Every format has a level.
        &self.levels[self.levels.len() - 1]
    }

    /// The level above [`bottom`](Self::bottom); `bottom` itself if it is the only one.
    pub fn directory(&self) -> &Level {
        &self.levels[self.levels.len().saturating_sub(2)]
    }

    /// Page size in bytes.
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

/// A condition on a minidump of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// All minidumps.
    Always,
    /// Minidumps of this version.
    Version(u32),
    /// Minidumps with this page size.
    PageSize(u64),
    /// Minidumps with nonzero `paemode`.
    PaeMode,
    /// Minidumps with `mmuformat` in this inclusive range.
    MmuFormat(u32, u32),
    /// Minidumps of kernels with this pointer size in bytes.
    Word(usize),
    /// Minidumps with this page size whose direct map starts at or above this physical address.
    PageSizeAndDmapPhys(u64, u64),
    /// Minidumps with this `mmu_name`.
    Mmu(&'static str),
}

/// The page-table section of a minidump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The entries of the last level, from `kernbase`.
    Pages(&'static Geometry),
    /// The entries of the level above the last, from `kernbase`; the tables are pages of the dump.
    Directories(&'static Geometry),
    /// The root table; the others are pages of the dump. Entries are big-endian (powerpc64).
    Root(&'static Geometry),
    /// A complete hashed page table (powerpc64).
    Hashed,
    /// Entries of this size in an unsupported format; the text is for errors.
    Unread(usize, &'static str),
}

/// The direct map of an architecture's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direct {
    /// No direct map.
    None,
    /// Maps physical memory from `dmapphys` at the header's `dmapbase` to `dmapend`.
    Linear {
        /// Whether it has precedence over the kernel map.
        first: bool,
        /// Whether `dmapend` is inclusive.
        inclusive: bool,
    },
    /// Address ranges that the hardware maps.
    Windows(&'static [Window]),
}

/// A range of addresses that the hardware maps to physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The kernels with this window.
    pub when: When,
    /// First address.
    pub start: VirtAddr,
    /// Last address.
    pub last: VirtAddr,
    /// Mask of the physical address.
    pub mask: u64,
    /// The kernel's own direct map, if it is in this window.
    pub home: Option<VirtAddr>,
}
