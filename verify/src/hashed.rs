//! The hashed page table of powerpc64.
//!
//! The section is the table itself, always big-endian: groups of eight entries of 16 bytes. A page's
//! virtual segment and its number in the segment hash to two groups, one of which contains its
//! entry. The entry omits the lower 11 bits of the page number, which follow from the group. For
//! this reason a table has at least 2048 groups.
//!
//! The table contains entries of all address spaces. A bit of the segment number marks kernel
//! segments. Kernel pages between `kernbase` and `kernend` must be in the dump; pages of user
//! programs and of the direct map need not be.
//!
//! Power ISA, book III, "Virtual Address Generation" and "Virtual to Real Translation"; FreeBSD
//! `sys/powerpc/aim/mmu_oea64.c`, `moea64_native.c`, `slb.c`.

use livecore_defs::powerpc64::{
    ADDR_SR_SHIFT, LPTE_API_SHIFT, LPTE_AVPN_API, LPTE_BIG, LPTE_HID, LPTE_LP_4K_16M, LPTE_LP_MASK,
    LPTE_LP_RPGN, LPTE_RPGN, LPTE_SEGMENT, LPTE_SIZE, LPTE_SWBITS, LPTE_VALID, LPTE_VSID,
    LPTE_VSID_SHIFT, LPTEG_ENTRIES, PTEG_HASH_BITS, VSID_HASH_BITS, VSID_HASH_MULTIPLIER,
};

use crate::header::MinidumpHeader;

/// Size of a group.
pub(crate) const GROUP: u64 = LPTE_SIZE as u64 * LPTEG_ENTRIES;
/// Number of low bits of the page number that an entry omits.
const OMITTED_BITS: u32 = 11;
/// Minimum number of groups.
pub(crate) const LEAST_GROUPS: u64 = 1 << OMITTED_BITS;
/// Size of a large page.
const LARGE: u64 = 16 << 20;

/// An entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lpte {
    hi: u64,
    lo: u64,
}

/// The page size that an entry's page number counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Pages of 4 KiB, including 4 KiB entries of a large page.
    Small,
    /// Pages of 16 MiB.
    Large,
}

impl Lpte {
    /// The entry in 16 bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let (hi, lo) = bytes.split_at(bytes.len() / 2);
        Self {
            hi: word(hi),
            lo: word(lo),
        }
    }

    pub(crate) fn is_valid(self) -> bool {
        self.hi & LPTE_VALID != 0
    }

    /// Whether the segment size is 256 MiB, the only one that FreeBSD uses.
    pub(crate) fn has_known_segment(self) -> bool {
        self.hi & LPTE_SEGMENT == 0
    }

    /// The bits that identify the page within its group: all except the software bits.
    pub(crate) fn tag(self) -> u64 {
        self.hi & !LPTE_SWBITS
    }

    fn unit(self) -> Unit {
        match self.hi & LPTE_BIG != 0 && self.lo & LPTE_LP_MASK != LPTE_LP_4K_16M {
            true => Unit::Large,
            false => Unit::Small,
        }
    }

    fn vsid(self) -> u64 {
        (self.hi & LPTE_VSID) >> LPTE_VSID_SHIFT
    }

    fn api(self) -> u64 {
        (self.hi & LPTE_AVPN_API) >> LPTE_API_SHIFT
    }

    /// The low bits of the hash for which the entry is in `group`.
    fn hash(self, group: u64) -> u64 {
        match self.hi & LPTE_HID {
            0 => group,
            _ => !group,
        }
    }

    /// Whether this entry's page hashes to `group`, in a table of `groups`, a power of two.
    pub(crate) fn belongs(self, group: u64, groups: u64) -> bool {
        let (page, known) = match self.unit() {
            Unit::Small => (self.api() << OMITTED_BITS, !(LEAST_GROUPS - 1)),
            Unit::Large => (self.api() >> 1, u64::MAX),
        };
        (self.hash(group) ^ self.vsid() ^ page) & known & (groups - 1) == 0
    }

    /// Virtual address, frame and size of the kernel page that an entry in `group` maps.
    pub(crate) fn kernel_page(self, group: u64) -> Option<(u64, u64, u64)> {
        let segment = segment_of(self.vsid())? << ADDR_SR_SHIFT;
        Some(match self.unit() {
            Unit::Large => (
                segment + (self.api() >> 1) * LARGE,
                self.lo & LPTE_LP_RPGN,
                LARGE,
            ),
            Unit::Small => {
                let low = (self.hash(group) ^ self.vsid()) & (LEAST_GROUPS - 1);
                let page = self.api() << OMITTED_BITS | low;
                let va = segment + page * 4096;
                (va, self.frame(va), 4096)
            }
        })
    }

    /// The frame of the small page at `va`.
    fn frame(self, va: u64) -> u64 {
        match self.hi & LPTE_BIG {
            0 => self.lo & LPTE_RPGN,
            _ => (self.lo & LPTE_LP_RPGN) + va % LARGE / 4096 * 4096,
        }
    }
}

/// The frame of the 4 KiB page at `va` in the kernel map. `read` reads the section at an offset.
pub(crate) fn translate(
    header: &MinidumpHeader,
    va: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Option<()>,
) -> Option<u64> {
    let groups = header.pmapsize / GROUP;
    if !groups.is_power_of_two() {
        return None;
    }
    let segment = vsid_of(va >> ADDR_SR_SHIFT);
    let page = va % (1 << ADDR_SR_SHIFT) / 4096;
    let mask = (1 << PTEG_HASH_BITS) - 1;
    let first = (segment & mask) ^ page;
    for (hash, hid) in [(first, 0), (!first & mask, LPTE_HID)] {
        let group = hash & (groups - 1);
        for slot in 0..LPTEG_ENTRIES {
            let mut bytes = [0; LPTE_SIZE];
            read(group * GROUP + slot * LPTE_SIZE as u64, &mut bytes)?;
            let entry = Lpte::parse(&bytes);
            if entry.is_valid()
                && entry.has_known_segment()
                && entry.hi & LPTE_HID == hid
                && entry.unit() == Unit::Small
                && entry.vsid() == segment
                && entry.api() == page >> OMITTED_BITS
            {
                return Some(entry.frame(va));
            }
        }
    }
    None
}

/// The virtual segment id of kernel segment `esid`.
fn vsid_of(esid: u64) -> u64 {
    let rotated = (esid << 8 | esid >> (VSID_HASH_BITS - 8)) % (1 << VSID_HASH_BITS);
    (rotated * VSID_HASH_MULTIPLIER % (1 << VSID_HASH_BITS)) | (1 << VSID_HASH_BITS)
}

/// The kernel segment with the virtual segment id `vsid`; `None` if it is not a kernel segment.
fn segment_of(vsid: u64) -> Option<u64> {
    if vsid >> VSID_HASH_BITS != 1 {
        return None;
    }
    let mask = (1 << VSID_HASH_BITS) - 1;
    let rotated = vsid.wrapping_mul(UNHASH) & mask;
    Some(rotated >> 8 | (rotated << (VSID_HASH_BITS - 8)) & mask)
}

/// The inverse of [`VSID_HASH_MULTIPLIER`] modulo 2^36.
const UNHASH: u64 = 0x614f_b973;
const _: () = assert!(UNHASH.wrapping_mul(VSID_HASH_MULTIPLIER) & ((1 << VSID_HASH_BITS) - 1) == 1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Results of the kernel's `va_to_vsid`, computed independently with big integers.
    #[test]
    fn segments_and_virtual_segments_map_to_each_other() {
        for (va, vsid) in [
            (0xc000_0000_0000_0000_u64, 0x10_000e_cc40_u64),
            (0xc008_0000_0000_0000, 0x1d_800e_cc40),
            (0xc008_0000_1fff_ffff, 0x1d_8022_8740),
        ] {
            assert_eq!(vsid_of(va >> 28), vsid);
            assert_eq!(segment_of(vsid), Some(va >> 28));
        }
        assert_eq!(segment_of(0xd_800e_cc40), None);
    }
}
