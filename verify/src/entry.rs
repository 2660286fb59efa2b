//! Parsing of one entry of a page-table section, by architecture.

use livecore_defs::{amd64, arm, arm64, i386, mips, riscv};

use crate::header::MinidumpHeader;

/// A parsed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Not valid.
    Absent,
    /// Maps `len` bytes at `pa`.
    Leaf { pa: u64, len: u64 },
    /// Points to a leaf table.
    Table { pa: u64 },
    /// Valid, of a type that the format does not define.
    Invalid(&'static str),
}

/// Size of an entry of the section; `None` for powerpc64's hashed table, which is not indexed by
/// address, and for unsupported formats.
pub(crate) fn size(header: &MinidumpHeader) -> Option<usize> {
    match header.architecture() {
        "amd64" => Some(amd64::PTE_SIZE),
        "arm64" => Some(arm64::PTE_SIZE),
        "riscv" => Some(riscv::PTE_SIZE),
        "i386" if header.pae => Some(i386::PTE_SIZE_PAE),
        "i386" => Some(i386::PTE_SIZE),
        "arm" if header.mmuformat >= arm::MMUFORMAT_V6_LPAE => None,
        "arm" => Some(arm::PTE_SIZE),
        "mips" if header.is_wide_mips() => Some(8),
        "mips" => Some(4),
        _ => None,
    }
}

/// Size of the address range that an entry of the section maps.
pub(crate) fn span(header: &MinidumpHeader) -> u64 {
    if header.is_amd64() && header.version >= 2 {
        amd64::NBPDR
    } else {
        header.page
    }
}

/// The entry in `bytes`, at most 8, as a number.
pub(crate) fn number(header: &MinidumpHeader, bytes: &[u8]) -> u64 {
    let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
    match header.big {
        true => bytes.iter().fold(0, add),
        false => bytes.iter().rev().fold(0, add),
    }
}

/// Parses `entry`, which maps the addresses from `va`.
pub(crate) fn parse(header: &MinidumpHeader, entry: u64, va: u64) -> Entry {
    let page = header.page;
    let leaf = |pa| Entry::Leaf { pa, len: page };
    match header.architecture() {
        "amd64" if entry & amd64::PG_V == 0 => Entry::Absent,
        "amd64" if header.version == 1 => leaf(entry & amd64::PG_FRAME),
        "amd64" if entry & amd64::PG_PS != 0 => Entry::Leaf {
            pa: entry & amd64::PG_PS_FRAME,
            len: amd64::NBPDR,
        },
        "amd64" => Entry::Table {
            pa: entry & amd64::PG_FRAME,
        },
        "arm64" => match entry & arm64::ATTR_DESCR_MASK {
            arm64::L3_PAGE => leaf(arm64_frame(header, entry) / page * page),
            arm64::L3_RESERVED => Entry::Invalid("type 1, which is reserved at level 3"),
            _ => Entry::Absent,
        },
        "riscv" if entry & riscv::PTE_V == 0 => Entry::Absent,
        "riscv" if entry & riscv::PTE_RWX == 0 => {
            Entry::Invalid("a table pointer at the last level")
        }
        "riscv" => leaf(((entry & riscv::PTE_PPN_MASK) >> riscv::PTE_PPN0_S) << riscv::L3_SHIFT),
        "i386" if entry & i386::PG_V == 0 => Entry::Absent,
        "i386" if header.pae => leaf(entry & i386::PG_FRAME_PAE),
        "i386" => leaf(entry & i386::PG_FRAME),
        "arm" => arm(header, entry, va),
        "mips" if entry & mips::PTE_V == 0 => Entry::Absent,
        "mips" => {
            let mask = match header.is_wide_mips() {
                true => mips::PTE_PFN_MASK_64,
                false => mips::PTE_PFN_MASK_32,
            };
            leaf(((entry & mask) >> mips::PTE_PFN_SHIFT) * page)
        }
        _ => Entry::Absent,
    }
}

/// The physical address in a page descriptor. Only kernels that use LPA2 have memory beyond 48-bit
/// addresses; their descriptors have bits 51 and 50 of the address in place of the shareability. In
/// the descriptors of a block that the kernel split for the dump, these bits are in their own position.
fn arm64_frame(header: &MinidumpHeader, entry: u64) -> u64 {
    let frame = entry & arm64::ATTR_FRAME;
    if header.dmapphys < arm64::PHYS_END_WITHOUT_LPA2 {
        return frame;
    }
    let own = entry & arm64::PA_51_50;
    if entry == frame | own | arm64::SYNTHETIC_L3_LPA2 {
        return frame | own;
    }
    frame | (entry & arm64::ATTR_OA_51_50) << arm64::ATTR_OA_51_50_DELTA
}

fn arm(header: &MinidumpHeader, entry: u64, va: u64) -> Entry {
    let pa = match entry & arm::L2_TYPE_MASK {
        arm::L2_TYPE_INV => return Entry::Absent,
        // Each of a large page's 16 descriptors has the frame of the whole page.
        arm::L2_TYPE_L => (entry & arm::L2_L_FRAME) + (va & arm::L2_L_OFFSET & arm::L2_S_FRAME),
        arm::L2_TYPE_T if header.mmuformat == arm::MMUFORMAT_V4 => {
            return Entry::Invalid("a tiny page");
        }
        _ => entry & arm::L2_S_FRAME,
    };
    Entry::Leaf {
        pa,
        len: header.page,
    }
}

/// Of the 16 descriptors of a 64 KiB range, the first that differs from a large page descriptor
/// among them. Only 32-bit arm has large pages.
pub(crate) fn torn_large_page(header: &MinidumpHeader, bytes: &[u8]) -> Option<usize> {
    if header.architecture() != "arm" {
        return None;
    }
    let mut entries = bytes.chunks_exact(arm::PTE_SIZE);
    let large = entries
        .clone()
        .find(|e| number(header, e) & arm::L2_TYPE_MASK == arm::L2_TYPE_L)?;
    entries.position(|entry| entry != large)
}

/// Whether a valid entry is global, as mips requires; `true` for other architectures.
pub(crate) fn is_global(header: &MinidumpHeader, entry: u64) -> bool {
    header.architecture() != "mips" || entry & mips::PTE_G != 0
}
