//! mips, 32 and 64 bit. Removed from FreeBSD after 13.
//!
//! FreeBSD `sys/mips/include/minidump.h` (header), `cpuregs.h` and `pte.h` (the rest); the
//! kernel's byte order. The kernel never fills `dmapbase` and `dmapend`.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/mips",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(64, 4),
    dumpavail_since: 2,
    kernbase: at(40, 8),
    kernend: None,
    dmapphys: None,
    dmapbase: Some(at(48, 8)),
    dmapend: Some(at(56, 8)),
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[64, 72],
};

/// Entry: for every address space. A kernel map's entries are, those that are not valid too: the
/// TLB keeps one such bit for two pages.
pub const PTE_G: u64 = 0x1;
/// Entry: valid.
pub const PTE_V: u64 = 0x2;
/// Entry: dirty, that is, writable.
pub const PTE_D: u64 = 0x4;
/// Frame number of a 32-bit entry, in place.
pub const PTE_PFN_MASK_32: u64 = 0x1fff_ffc0;
/// Frame number of a 64-bit entry, in place.
pub const PTE_PFN_MASK_64: u64 = 0x3_ffff_ffc0;
/// Shift of the frame number.
pub const PTE_PFN_SHIFT: u32 = 6;

/// `e_flags` of an ELF32 kernel: n32, whose registers and page-table entries have 64 bits.
pub const EF_MIPS_ABI2: u32 = 0x20;

/// First address of XKPHYS (64-bit kernels): cached or not, the low 40 bits are physical.
pub const XKPHYS_START: u64 = 0x8000_0000_0000_0000;
/// Last address of XKPHYS.
pub const XKPHYS_END: u64 = 0xbfff_ffff_ffff_ffff;
/// First address of the part of XKPHYS that is cached without coherence.
pub const XKPHYS_CACHED: u64 = 0x9800_0000_0000_0000;
/// Physical part of an XKPHYS address.
pub const XKPHYS_PHYS_MASK: u64 = (1 << 40) - 1;
/// First address of KSEG0 on 32-bit kernels; 64-bit kernels extend the sign.
pub const KSEG0_START: u64 = 0x8000_0000;
/// First address behind KSEG1 on 32-bit kernels; 64-bit kernels extend the sign.
pub const KSEG1_END: u64 = 0xc000_0000;
/// Physical part of a KSEG0 or KSEG1 address.
pub const KSEG_PHYS_MASK: u64 = (1 << 29) - 1;
/// What the sign extension of a 64-bit kernel adds to a KSEG address.
pub const KSEG_SIGN: u64 = 0xffff_ffff_0000_0000;
