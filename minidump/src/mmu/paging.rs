//! Page tables as processors walk them: one row per form, and one walk for all.
//!
//! Not the page-table section of a dump, which `crate::arch` reads: these are the tables in a
//! machine's memory.

use livecore_defs::{amd64, arm64, i386, riscv};

/// A form of page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Paging {
    /// amd64 from a PML4 down.
    Amd64,
    /// amd64 from a PML5 down.
    Amd64La57,
    /// arm64 with pages of 4 KiB.
    Arm64,
    /// arm64 with pages of 16 KiB.
    Arm64Pages16K,
    /// riscv64, three levels.
    Sv39,
    /// riscv64, four levels.
    Sv48,
    /// i386 without PAE.
    I386,
    /// i386 with PAE, from the table of four pointers down (`IdlePDPT`).
    I386Pae,
    /// i386 with PAE, from its four directories down, which follow each other in memory
    /// (`IdlePTD`).
    I386PaeDirectories,
}

/// How a form is laid out.
#[derive(Debug)]
pub struct Geometry {
    /// Bytes of an entry: 4 or 8.
    pub entry_size: usize,
    /// From the root down; the last one's entries map pages.
    pub levels: &'static [Level],
    /// What an entry of the level with this shift says.
    decode: fn(u32, u64) -> Entry,
}

/// One level of tables.
#[derive(Debug)]
pub struct Level {
    /// The lowest bit of an address that the index is taken from.
    pub shift: u32,
    /// Entries of a table: a power of two.
    pub entries: u64,
    /// What is said of an address whose entry is not valid.
    pub missing: &'static str,
}

/// What a page-table entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped.
    Invalid,
    /// The table of the next level is at this physical address.
    Table(u64),
    /// A page or a block: a physical address, whose bits below the block's size mean nothing.
    Leaf(u64),
}

const fn level(shift: u32, entries: u64, missing: &'static str) -> Level {
    Level {
        shift,
        entries,
        missing,
    }
}

impl Level {
    /// The offset of the entry for `at` in its table, in entries.
    pub fn index(&self, at: u64) -> u64 {
        at >> self.shift & (self.entries - 1)
    }

    /// Bytes that an entry maps.
    pub fn span(&self) -> u64 {
        1 << self.shift
    }
}

impl Geometry {
    /// What `entry`, of the level at `depth` below the root, says.
    pub fn entry(&self, depth: usize, entry: u64) -> Entry {
        match self.levels.get(depth) {
            Some(level) => (self.decode)(level.shift, entry),
            None => Entry::Invalid,
        }
    }

    /// The level whose entries map pages.
    pub fn bottom(&self) -> &Level {
        // Every geometry below has two levels at least.
        &self.levels[self.levels.len() - 1]
    }

    /// The level above it.
    pub fn directory(&self) -> &Level {
        &self.levels[self.levels.len() - 2]
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u64 {
        self.bottom().span()
    }
}

impl Paging {
    /// Its layout.
    pub fn geometry(self) -> &'static Geometry {
        match self {
            Self::Amd64 => &AMD64,
            Self::Amd64La57 => &AMD64_LA57,
            Self::Arm64 => &ARM64,
            Self::Arm64Pages16K => &ARM64_16K,
            Self::Sv39 => &SV39,
            Self::Sv48 => &SV48,
            Self::I386 => &I386,
            Self::I386Pae => &I386_PAE,
            Self::I386PaeDirectories => &I386_PAE_DIRECTORIES,
        }
    }

    /// Bytes per page.
    pub fn page_size(self) -> u64 {
        self.geometry().page_size()
    }
}

const PML4: Level = level(amd64::PML4SHIFT, 512, "its PML4 entry is not valid");
const PDP: Level = level(amd64::PDPSHIFT, 512, "its PDP entry is not valid");
const PD: Level = level(
    amd64::PDRSHIFT,
    512,
    "its page-directory entry is not valid",
);
const PT: Level = level(amd64::PAGE_SHIFT, 512, "its page-table entry is not valid");

/// FreeBSD `sys/amd64/include/pmap.h`.
static AMD64: Geometry = Geometry {
    entry_size: 8,
    levels: &[PML4, PDP, PD, PT],
    decode: amd64_entry,
};

static AMD64_LA57: Geometry = Geometry {
    entry_size: 8,
    levels: &[
        level(48, 512, "its PML5 entry is not valid"),
        PML4,
        PDP,
        PD,
        PT,
    ],
    decode: amd64_entry,
};

fn amd64_entry(shift: u32, entry: u64) -> Entry {
    use amd64::{PAGE_SHIFT, PDPSHIFT, PG_FRAME, PG_PS, PG_V};
    if entry & PG_V == 0 {
        Entry::Invalid
    } else if shift == PAGE_SHIFT || (shift <= PDPSHIFT && entry & PG_PS != 0) {
        Entry::Leaf(entry & PG_FRAME)
    } else {
        Entry::Table(entry & PG_FRAME)
    }
}

const L0_INVALID: &str = "its L0 entry is not valid";
const L1_INVALID: &str = "its L1 entry is not valid";
const L2_INVALID: &str = "its L2 entry is not valid";
const L3_INVALID: &str = "its L3 entry is not valid";

/// FreeBSD `sys/arm64/include/pte.h`.
static ARM64: Geometry = Geometry {
    entry_size: arm64::PTE_SIZE,
    levels: &[
        level(39, 512, L0_INVALID),
        level(30, 512, L1_INVALID),
        level(arm64::L2_SHIFT_4K, 512, L2_INVALID),
        level(arm64::L3_SHIFT_4K, 512, L3_INVALID),
    ],
    decode: |shift, entry| arm64_entry(shift, entry, arm64::L3_SHIFT_4K, 30),
};

static ARM64_16K: Geometry = Geometry {
    entry_size: arm64::PTE_SIZE,
    levels: &[
        level(47, 2, L0_INVALID),
        level(36, 2048, L1_INVALID),
        level(arm64::L2_SHIFT_16K, 2048, L2_INVALID),
        level(arm64::L3_SHIFT_16K, 2048, L3_INVALID),
    ],
    decode: |shift, entry| arm64_entry(shift, entry, arm64::L3_SHIFT_16K, arm64::L2_SHIFT_16K),
};

/// `page`: shift of the level of pages. `block`: shift of the highest level that has blocks.
fn arm64_entry(shift: u32, entry: u64, page: u32, block: u32) -> Entry {
    use arm64::{ATTR_DESCR_MASK, ATTR_FRAME, L2_BLOCK, L3_PAGE};
    let address = entry & ATTR_FRAME & !((1 << page) - 1);
    match entry & ATTR_DESCR_MASK {
        L3_PAGE if shift == page => Entry::Leaf(address),
        L3_PAGE => Entry::Table(address),
        L2_BLOCK if shift != page && shift <= block => Entry::Leaf(address),
        _ => Entry::Invalid,
    }
}

/// FreeBSD `sys/riscv/include/pte.h`.
static SV39: Geometry = Geometry {
    entry_size: riscv::PTE_SIZE,
    levels: &[
        level(30, 512, L1_INVALID),
        level(riscv::L2_SHIFT, 512, L2_INVALID),
        level(riscv::L3_SHIFT, 512, L3_INVALID),
    ],
    decode: riscv_entry,
};

static SV48: Geometry = Geometry {
    entry_size: riscv::PTE_SIZE,
    levels: &[
        level(39, 512, L0_INVALID),
        level(30, 512, L1_INVALID),
        level(riscv::L2_SHIFT, 512, L2_INVALID),
        level(riscv::L3_SHIFT, 512, L3_INVALID),
    ],
    decode: riscv_entry,
};

fn riscv_entry(shift: u32, entry: u64) -> Entry {
    use riscv::{L3_SHIFT, PTE_PPN_MASK, PTE_PPN0_S, PTE_RWX, PTE_V};
    let address = (entry & PTE_PPN_MASK) >> PTE_PPN0_S << L3_SHIFT;
    if entry & PTE_V == 0 {
        Entry::Invalid
    } else if entry & PTE_RWX != 0 {
        Entry::Leaf(address)
    } else if shift == L3_SHIFT {
        Entry::Invalid
    } else {
        Entry::Table(address)
    }
}

const PD_INVALID: &str = "its page-directory entry is not valid";
const PT_INVALID: &str = "its page-table entry is not valid";

/// FreeBSD `sys/i386/include/pmap_nopae.h`.
static I386: Geometry = Geometry {
    entry_size: i386::PTE_SIZE,
    levels: &[level(22, 1024, PD_INVALID), level(12, 1024, PT_INVALID)],
    decode: |shift, entry| i386_entry(shift, 22, entry, i386::PG_FRAME),
};

/// FreeBSD `sys/i386/include/pmap_pae.h`.
static I386_PAE: Geometry = Geometry {
    entry_size: i386::PTE_SIZE_PAE,
    levels: &[
        level(30, 4, "its directory-pointer entry is not valid"),
        level(21, 512, PD_INVALID),
        level(12, 512, PT_INVALID),
    ],
    decode: |shift, entry| i386_entry(shift, 21, entry, i386::PG_FRAME_PAE),
};

static I386_PAE_DIRECTORIES: Geometry = Geometry {
    entry_size: i386::PTE_SIZE_PAE,
    levels: &[level(21, 2048, PD_INVALID), level(12, 512, PT_INVALID)],
    decode: |shift, entry| i386_entry(shift, 21, entry, i386::PG_FRAME_PAE),
};

/// `directory`: shift of the level that has large leaves.
fn i386_entry(shift: u32, directory: u32, entry: u64, frame: u64) -> Entry {
    use i386::{PG_PS, PG_V};
    if entry & PG_V == 0 {
        Entry::Invalid
    } else if shift < directory || (shift == directory && entry & PG_PS != 0) {
        Entry::Leaf(entry & frame)
    } else {
        Entry::Table(entry & frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_continues_where_the_next_one_ends() {
        for paging in [
            Paging::Amd64,
            Paging::Amd64La57,
            Paging::Arm64,
            Paging::Arm64Pages16K,
            Paging::Sv39,
            Paging::Sv48,
            Paging::I386,
            Paging::I386Pae,
            Paging::I386PaeDirectories,
        ] {
            let geometry = paging.geometry();
            for pair in geometry.levels.windows(2) {
                let [upper, lower] = pair else {
                    unreachable!("windows of two")
                };
                assert_eq!(upper.span(), lower.span() * lower.entries, "{paging:?}");
                assert!(lower.entries.is_power_of_two());
            }
            // Every table but the root of some is a page.
            let bottom = geometry.bottom();
            assert_eq!(bottom.entries * geometry.entry_size as u64, bottom.span());
        }
    }

    #[test]
    fn blocks_are_leaves_only_where_the_architecture_has_them() {
        let arm64 = Paging::Arm64.geometry();
        let block = 0x8000_0000_0000_0701 | 0x4000_0000;
        assert_eq!(arm64.entry(0, block), Entry::Invalid);
        assert_eq!(arm64.entry(1, block), Entry::Leaf(0x4000_0000));
        assert_eq!(arm64.entry(2, block), Entry::Leaf(0x4000_0000));
        assert_eq!(arm64.entry(3, block), Entry::Invalid);
        let wide = Paging::Arm64Pages16K.geometry();
        assert_eq!(wide.entry(1, block), Entry::Invalid);
        assert_eq!(wide.entry(2, block), Entry::Leaf(0x4000_0000));
        let amd64 = Paging::Amd64.geometry();
        assert_eq!(amd64.entry(0, 0x40_0083), Entry::Table(0x40_0000));
        assert_eq!(amd64.entry(1, 0x4000_0083), Entry::Leaf(0x4000_0000));
        assert_eq!(amd64.entry(3, 0x40_0083), Entry::Leaf(0x40_0000));
        let sv39 = Paging::Sv39.geometry();
        assert_eq!(sv39.entry(0, 0x1000_000f), Entry::Leaf(0x4000_0000));
        assert_eq!(sv39.entry(2, 0x1000_0001), Entry::Invalid);
        let i386 = Paging::I386.geometry();
        assert_eq!(i386.entry(0, 0x40_0083), Entry::Leaf(0x40_0000));
        assert_eq!(i386.entry(0, 0x40_1003), Entry::Table(0x40_1000));
        let pae = Paging::I386Pae.geometry();
        assert_eq!(pae.entry(0, 0x40_1081), Entry::Table(0x40_1000));
        assert_eq!(pae.entry(1, 1 << 32 | 0x83), Entry::Leaf(1 << 32));
    }
}
