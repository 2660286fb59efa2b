//! arm64.
//!
//! FreeBSD `sys/arm64/include/minidump.h` (header), `pte.h` and `vmparam.h` (the rest); little
//! endian.
//!
//! | version | what changed                                                         |
//! |---------|----------------------------------------------------------------------|
//! | 1       |                                                                      |
//! | 2       | adds `dumpavailsize`; the bitmap indexes those ranges                |
//! | 3       | adds `flags`, where version 2 has zero padding: pages may be 16 KiB  |

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/arm64",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 3,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(72, 4),
    dumpavail_since: 2,
    kernbase: at(40, 8),
    kernend: None,
    dmapphys: Some(at(48, 8)),
    dmapbase: Some(at(56, 8)),
    dmapend: Some(at(64, 8)),
    flags: Some(at(76, 4)),
    flags_since: 3,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[72, 80, 80],
};

/// `flags`: the bits that code the page size.
pub const FLAG_PS_MASK: u32 = 3;
/// `flags`: pages of 4 KiB.
pub const FLAG_PS_4K: u32 = 0;
/// `flags`: pages of 16 KiB.
pub const FLAG_PS_16K: u32 = 1;
/// `flags`: reserved for pages of 64 KiB, which no kernel writes.
pub const FLAG_PS_64K: u32 = 2;

/// Bytes of an entry.
pub const PTE_SIZE: usize = 8;
/// Type bits of a descriptor.
pub const ATTR_DESCR_MASK: u64 = 3;
/// Type of an L3 page descriptor; of a table descriptor above L3.
pub const L3_PAGE: u64 = 3;
/// Type of an L3 descriptor that is reserved, where the levels above have blocks.
pub const L3_RESERVED: u64 = 1;
/// Type of a block descriptor at L1 or L2.
pub const L2_BLOCK: u64 = 1;
/// `ATTR_AP(ATTR_AP_RO)`: not writable.
pub const ATTR_AP_RO: u64 = 1 << 7;
/// Privileged execute never.
pub const ATTR_PXN: u64 = 1 << 53;
/// Unprivileged execute never.
pub const ATTR_UXN: u64 = 1 << 54;
/// Frame of a descriptor: bits 12 to 49.
pub const ATTR_FRAME: u64 = !0xfffc_0000_0000_0fff;
/// What is added to the frame when a block is written out as L3 descriptors: accessed, inner
/// shareable, page. The block's other bits are lost.
pub const SYNTHETIC_L3: u64 = 0x703;

/// L2 shift, 4 KiB pages.
pub const L2_SHIFT_4K: u32 = 21;
/// L3 shift, 4 KiB pages.
pub const L3_SHIFT_4K: u32 = 12;
/// L2 shift, 16 KiB pages.
pub const L2_SHIFT_16K: u32 = 25;
/// L3 shift, 16 KiB pages.
pub const L3_SHIFT_16K: u32 = 14;

/// `VM_MIN_KERNEL_ADDRESS`
pub const VM_MIN_KERNEL_ADDRESS: u64 = 0xffff_0000_0000_0000;
/// `VM_MAX_KERNEL_ADDRESS`
pub const VM_MAX_KERNEL_ADDRESS: u64 = 0xffff_0080_0000_0000;
/// `DMAP_MIN_ADDRESS` in 12.1.
pub const DMAP_MIN_ADDRESS_12: u64 = 0xffff_fd00_0000_0000;
/// `DMAP_MIN_ADDRESS` since.
pub const DMAP_MIN_ADDRESS: u64 = 0xffff_a000_0000_0000;
/// `DMAP_MAX_ADDRESS`
pub const DMAP_MAX_ADDRESS: u64 = 0xffff_ff00_0000_0000;
