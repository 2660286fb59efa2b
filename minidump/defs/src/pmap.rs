//! `struct pmap`, of a process and of the kernel: the root of its page tables.
//!
//! FreeBSD `sys/*/include/pmap.h`, 10.4 to 15.

/// The fields of `struct pmap` with the root of the page tables: its direct-map address, and a second
/// word that must agree with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PmapFields {
    /// Offset of the root's direct-map address.
    pub top: usize,
    /// Possible offsets of the second word.
    pub also: &'static [usize],
    /// Right shift of the root's physical address in the second word.
    pub also_shift: u32,
    /// Mask of the address in the second word.
    pub also_mask: u64,
}
