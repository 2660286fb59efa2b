//! The radix page tables of powerpc64.
//!
//! The section is the root: 8192 entries of 8 bytes. The tables of the three levels below it have 512
//! entries and are pages of the dump. Entries are big-endian in all kernels. The root's index is bits 39
//! to 51 of an address, so the tables also map the direct map, which the header describes.
//!
//! Power ISA, book III, "Radix Tree Translation"; FreeBSD `sys/powerpc/include/pte.h`,
//! `sys/powerpc/aim/mmu_radix.c`, `lib/libkvm/kvm_minidump_powerpc64_radix.c` of 2026.

use livecore_defs::powerpc64::{
    RPDE_NLS, RPDE_NLS_MASK, RPTE_LEAF, RPTE_RPN_MASK, RPTE_SIZE, RPTE_VALID,
};

/// The lowest address bit of the index in a table, by level from the root.
pub(crate) const SHIFTS: [u32; 4] = [39, 30, 21, 12];
/// Number of entries of the root.
pub(crate) const ROOT_ENTRIES: u64 = 8192;
/// Number of entries of any other table.
const ENTRIES: u64 = 512;

/// An entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rpte {
    /// Not valid.
    Absent,
    /// Maps the page or block at this physical address.
    Leaf(u64),
    /// Points to the table at this physical address.
    Table(u64),
    /// Valid, of a kind that the format does not define.
    Invalid(&'static str),
}

impl Rpte {
    /// Parses the entry in 8 bytes, of a table at `depth` below the root.
    pub(crate) fn parse(bytes: &[u8], depth: usize) -> Self {
        let entry = number(bytes);
        let (frame, size) = (entry & RPTE_RPN_MASK, 1 << SHIFTS[depth]);
        match (entry & RPTE_VALID, entry & RPTE_LEAF) {
            (0, _) => Self::Absent,
            (_, 1..) => Self::Leaf(frame / size * size),
            _ if depth + 1 == SHIFTS.len() => Self::Invalid("a table pointer at the last level"),
            _ if entry & RPDE_NLS_MASK != RPDE_NLS => {
                Self::Invalid("a pointer to a table that has not 512 entries")
            }
            _ => Self::Table(frame),
        }
    }
}

/// The entry in `bytes`, as a number.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The physical address of `va`. `root` reads the section at an offset, `memory` reads physical memory.
pub(crate) fn translate<E>(
    va: u64,
    mut root: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    mut memory: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Option<u64>, E> {
    let mut bytes = [0; RPTE_SIZE];
    root(
        (va >> SHIFTS[0]) % ROOT_ENTRIES * RPTE_SIZE as u64,
        &mut bytes,
    )?;
    for (depth, shift) in SHIFTS.iter().enumerate() {
        match Rpte::parse(&bytes, depth) {
            Rpte::Absent | Rpte::Invalid(_) => return Ok(None),
            Rpte::Leaf(pa) => return Ok(Some(pa + va % (1 << shift))),
            // The last level has no table entries.
            Rpte::Table(table) => {
                let below = SHIFTS.get(depth + 1).copied().unwrap_or(0);
                let index = (va >> below) % ENTRIES;
                memory(table + index * RPTE_SIZE as u64, &mut bytes)?;
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tables below the root, written by hand: 2 MiB at 0x4000_0000, mapped at 0xc008_0000_4020_0000.
    #[test]
    fn an_address_is_translated_level_by_level() {
        let entry = |depth: u64, at: u64| -> Result<u64, ()> {
            match (depth, at) {
                (0, 0x8000) => Ok(0x8000_0000_0000_1009),
                (1, 0x1008) => Ok(0x8000_0000_0000_2009),
                (1, 0x2008) => Ok(0xc000_0000_4000_0187),
                (0, 0x8008) => Ok(0x8000_0000_0000_9009),
                (1, 0x9000..) => Err(()),
                _ => Ok(0),
            }
        };
        let find = |va| {
            let read = |depth| {
                move |at, bytes: &mut [u8]| {
                    bytes.copy_from_slice(&entry(depth, at)?.to_be_bytes());
                    Ok(())
                }
            };
            translate(va, read(0), read(1))
        };
        assert_eq!(find(0xc008_0000_4020_0000), Ok(Some(0x4000_0000)));
        assert_eq!(find(0xc008_0000_403f_ffff), Ok(Some(0x401f_ffff)));
        assert_eq!(find(0xc008_0000_4040_0000), Ok(None));
        assert_eq!(find(0xc008_0080_0000_0000), Err(()));
    }

    #[test]
    fn tables_of_another_size_and_below_the_last_level_are_invalid() {
        let parse = |entry: u64, depth| Rpte::parse(&entry.to_be_bytes(), depth);
        assert_eq!(parse(0x8000_0000_0000_1009, 2), Rpte::Table(0x1000));
        assert!(matches!(parse(0x8000_0000_0000_1009, 3), Rpte::Invalid(_)));
        assert!(matches!(parse(0x8000_0000_0000_1005, 1), Rpte::Invalid(_)));
        assert_eq!(parse(0xc000_0000_4000_1107, 3), Rpte::Leaf(0x4000_1000));
        assert_eq!(parse(0x4000_0000_4000_1107, 3), Rpte::Absent);
    }
}
