//! powerpc64 with hashed page tables.
//!
//! FreeBSD `sys/powerpc/include/minidump.h` (header), `sys/powerpc/aim/moea64_native.c` (entries).
//! The header is in the kernel's byte order, big or little endian; the page table is always big
//! endian.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/powerpc64",
    magic: at(0, 32),
    version: at(64, 4),
    last_version: 2,
    msgbufsize: at(68, 4),
    bitmapsize: at(72, 4),
    pmapsize: at(76, 4),
    dumpavailsize: at(136, 4),
    dumpavail_since: 2,
    kernbase: at(80, 8),
    kernend: Some(at(88, 8)),
    dmapphys: None,
    dmapbase: Some(at(96, 8)),
    dmapend: Some(at(104, 8)),
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    mmu_name: Some(at(32, 32)),
    hw_direct_map: Some(at(112, 4)),
    startkernel: Some(at(120, 8)),
    endkernel: Some(at(128, 8)),
    sizeof: &[136, 144],
};

/// The pmaps whose page tables are hashed; radix page tables have no minidump.
pub const HASHED_MMUS: [&str; 2] = ["mmu_g5", "mmu_phyp"];

/// Bytes of a page-table entry: two big-endian doublewords.
pub const LPTE_SIZE: usize = 16;
/// Entries in a group.
pub const LPTEG_ENTRIES: u64 = 8;
/// First doubleword: valid.
pub const LPTE_VALID: u64 = 1;
/// First doubleword: this is the secondary hash.
pub const LPTE_HID: u64 = 2;
/// First doubleword: a large page of 16 MiB.
pub const LPTE_BIG: u64 = 4;
/// First doubleword: what software keeps there.
pub const LPTE_SWBITS: u64 = 0x78;
/// First doubleword: abbreviated page index.
pub const LPTE_AVPN_API: u64 = 0xf80;
/// Shift of [`LPTE_AVPN_API`].
pub const LPTE_API_SHIFT: u32 = 7;
/// First doubleword: the virtual segment.
pub const LPTE_VSID: u64 = 0x3fff_ffff_ffff_f000;
/// Shift of [`LPTE_VSID`].
pub const LPTE_VSID_SHIFT: u32 = 12;
/// First doubleword: bits that are zero in a 256 MiB segment's entry.
pub const LPTE_SEGMENT: u64 = 0xc000_0000_0000_0000;
/// Second doubleword: protection.
pub const LPTE_PP: u64 = 3;
/// Protection: read-only, for the kernel too.
pub const LPTE_BR: u64 = 3;
/// Second doubleword: not executable.
pub const LPTE_NOEXEC: u64 = 4;
/// Second doubleword: frame of a small page.
pub const LPTE_RPGN: u64 = 0x0fff_ffff_ffff_f000;
/// Second doubleword of a large page's entry: which sizes it is about.
pub const LPTE_LP_MASK: u64 = 0x000f_f000;
/// Of [`LPTE_LP_MASK`]: one of the 4096 entries of a 16 MiB page in a segment of 4 KiB pages. It is
/// found by the number of its small page (since 13).
pub const LPTE_LP_4K_16M: u64 = 0x0003_8000;
/// Second doubleword: frame of a 16 MiB page.
pub const LPTE_LP_RPGN: u64 = 0x0fff_ffff_ff00_0000;

/// Shift of the segment number of an address.
pub const ADDR_SR_SHIFT: u32 = 28;
/// Multiplier of the segment hash.
pub const VSID_HASH_MULTIPLIER: u64 = 0x13bb;
/// Bits of the segment hash.
pub const VSID_HASH_BITS: u32 = 36;
/// Bits of the page-table hash.
pub const PTEG_HASH_BITS: u32 = 39;
/// Shift of a large page.
pub const LARGE_PAGE_SHIFT: u32 = 24;
/// Where a powerpc64 kernel is linked. It runs at `startkernel`.
pub const KERNBASE: u64 = 0x10_0100;
