//! Page-table formats in the memory of a machine.

use livecore_defs::paging::Geometry;
use livecore_defs::{amd64, arm64, i386, riscv};

/// A page-table format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Paging {
    /// amd64, four levels (PML4).
    Amd64,
    /// amd64, five levels (PML5).
    Amd64La57,
    /// arm64 with pages of 4 KiB.
    Arm64,
    /// arm64 with pages of 16 KiB.
    Arm64Pages16K,
    /// arm64 with LPA2 and pages of 4 KiB.
    Arm64Lpa2,
    /// arm64 with LPA2 and pages of 16 KiB.
    Arm64Lpa2Pages16K,
    /// riscv64, three levels.
    Sv39,
    /// riscv64, four levels.
    Sv48,
    /// i386 without PAE.
    I386,
    /// i386 with PAE, with the table of four pointers as the root (`IdlePDPT`).
    I386Pae,
    /// i386 with PAE, with its four contiguous page directories as the root (`IdlePTD`).
    I386PaeDirectories,
}

impl Paging {
    /// The layout of the format.
    pub fn geometry(self) -> &'static Geometry {
        match self {
            Self::Amd64 => &amd64::PAGING,
            Self::Amd64La57 => &amd64::PAGING_LA57,
            Self::Arm64 => &arm64::PAGING,
            Self::Arm64Pages16K => &arm64::PAGING_16K,
            Self::Arm64Lpa2 => &arm64::PAGING_LPA2,
            Self::Arm64Lpa2Pages16K => &arm64::PAGING_16K_LPA2,
            Self::Sv39 => &riscv::PAGING_SV39,
            Self::Sv48 => &riscv::PAGING_SV48,
            Self::I386 => &i386::PAGING,
            Self::I386Pae => &i386::PAGING_PAE,
            Self::I386PaeDirectories => &i386::PAGING_PAE_DIRECTORIES,
        }
    }

    /// Bytes per page.
    pub fn page_size(self) -> u64 {
        self.geometry().page_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PhysAddr;
    use crate::mmu::{Entry, decode};

    #[test]
    fn an_entry_spans_the_whole_table_of_the_next_level() {
        for paging in [
            Paging::Amd64,
            Paging::Amd64La57,
            Paging::Arm64,
            Paging::Arm64Pages16K,
            Paging::Arm64Lpa2,
            Paging::Arm64Lpa2Pages16K,
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
            // Every table has the size of a page, except some roots.
            let bottom = geometry.bottom();
            assert_eq!(bottom.entries * geometry.entry_size as u64, bottom.span());
        }
    }

    #[test]
    fn blocks_are_leaves_only_at_levels_that_support_them() {
        let arm64 = Paging::Arm64.geometry();
        let block = 0x8000_0000_0000_0701 | 0x4000_0000;
        assert_eq!(decode(arm64, 0, block), Entry::Invalid);
        assert_eq!(decode(arm64, 1, block), Entry::Leaf(PhysAddr(0x4000_0000)));
        assert_eq!(decode(arm64, 2, block), Entry::Leaf(PhysAddr(0x4000_0000)));
        assert_eq!(decode(arm64, 3, block), Entry::Invalid);
        let wide = Paging::Arm64Pages16K.geometry();
        assert_eq!(decode(wide, 1, block), Entry::Invalid);
        assert_eq!(decode(wide, 2, block), Entry::Leaf(PhysAddr(0x4000_0000)));
        let lpa2 = Paging::Arm64Lpa2Pages16K.geometry();
        let high = PhysAddr(0x8_0000_4000_0000);
        assert_eq!(decode(lpa2, 1, 0x4000_0609), Entry::Leaf(high));
        assert_eq!(decode(lpa2, 2, 0x4000_060b), Entry::Table(high));
        assert_eq!(decode(lpa2, 3, 0x4000_060b), Entry::Leaf(high));
        let split = 0x8_0000_4000_0403;
        assert_eq!(decode(lpa2, 3, split), Entry::Leaf(high));
        let amd64 = Paging::Amd64.geometry();
        assert_eq!(
            decode(amd64, 0, 0x40_0083),
            Entry::Table(PhysAddr(0x40_0000))
        );
        assert_eq!(
            decode(amd64, 1, 0x4000_0083),
            Entry::Leaf(PhysAddr(0x4000_0000))
        );
        assert_eq!(
            decode(amd64, 3, 0x40_0083),
            Entry::Leaf(PhysAddr(0x40_0000))
        );
        let sv39 = Paging::Sv39.geometry();
        assert_eq!(
            decode(sv39, 0, 0x1000_000f),
            Entry::Leaf(PhysAddr(0x4000_0000))
        );
        assert_eq!(decode(sv39, 2, 0x1000_0001), Entry::Invalid);
        let i386 = Paging::I386.geometry();
        assert_eq!(decode(i386, 0, 0x40_0083), Entry::Leaf(PhysAddr(0x40_0000)));
        assert_eq!(
            decode(i386, 0, 0x40_1003),
            Entry::Table(PhysAddr(0x40_1000))
        );
        let pae = Paging::I386Pae.geometry();
        assert_eq!(decode(pae, 0, 0x40_1081), Entry::Table(PhysAddr(0x40_1000)));
        assert_eq!(
            decode(pae, 1, 1 << 32 | 0x83),
            Entry::Leaf(PhysAddr(1 << 32))
        );
    }
}
