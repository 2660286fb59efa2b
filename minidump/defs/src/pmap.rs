//! `struct pmap` of a process: what leads to its page tables.
//!
//! FreeBSD `sys/*/include/pmap.h`, 10.4 to 15.

/// What in a `struct pmap` leads to the root of its tables: a virtual address of the direct map, and
/// another word that says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PmapFields {
    /// Offset of the root's address.
    pub top: usize,
    /// Offsets of the other word; one of them.
    pub also: &'static [usize],
    /// How far the root's physical address is shifted down in the other word.
    pub also_shift: u32,
    /// Bits of the other word that count.
    pub also_mask: u64,
}
