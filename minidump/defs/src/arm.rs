//! 32-bit arm.
//!
//! FreeBSD `sys/arm/include/minidump.h` (header), `pte-v6.h`, `pte-v4.h` (entries).
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges. `ptesize` is a multiple of
//! 1 KiB; the kernel writes the section without padding, libkvm expects padding.

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/arm",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(52, 4),
    dumpavail_since: 2,
    kernbase: at(40, 4),
    kernend: None,
    dmapphys: None,
    dmapbase: None,
    dmapend: None,
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: Some(at(44, 4)),
    mmuformat: Some(at(48, 4)),
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[52, 56],
};

/// `MINIDUMP_MMU_FORMAT_UNKNOWN`: taken as [`MMUFORMAT_V6`].
pub const MMUFORMAT_UNKNOWN: u32 = 0;
/// `MINIDUMP_MMU_FORMAT_V4`
pub const MMUFORMAT_V4: u32 = 1;
/// `MINIDUMP_MMU_FORMAT_V6`
pub const MMUFORMAT_V6: u32 = 2;
/// `MINIDUMP_MMU_FORMAT_V6_LPAE`
pub const MMUFORMAT_V6_LPAE: u32 = 3;

/// Bytes of an L2 descriptor.
pub const PTE_SIZE: usize = 4;
/// Type bits of an L2 descriptor.
pub const L2_TYPE_MASK: u64 = 3;
/// Type: nothing mapped.
pub const L2_TYPE_INV: u64 = 0;
/// Type: a page of 64 KiB.
pub const L2_TYPE_L: u64 = 1;
/// Type: a small page. With version 6 formats bit 0 is "never execute".
pub const L2_TYPE_S: u64 = 2;
/// Type: a tiny page of version 4 formats, which is rejected.
pub const L2_TYPE_T: u64 = 3;
/// Frame of a 64 KiB page.
pub const L2_L_FRAME: u64 = 0xffff_0000;
/// Address bits below a 64 KiB page's frame.
pub const L2_L_OFFSET: u64 = 0x0000_ffff;
/// Frame of a small page.
pub const L2_S_FRAME: u64 = 0xffff_f000;
/// Version 6: not writable (a bit that the hardware leaves to the kernel).
pub const PTE2_RO_V6: u64 = 1 << 7;
/// Version 6, small pages: not executable.
pub const L2_NX_V6: u64 = 1 << 0;
/// Version 6, pages of 64 KiB: not executable (Arm's architecture manual).
pub const L2_L_NX_V6: u64 = 1 << 15;
/// Version 4: writable by the kernel.
pub const L2_S_PROT_W_V4: u64 = 1 << 4;
