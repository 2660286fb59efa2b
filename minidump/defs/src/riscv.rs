//! riscv64.
//!
//! FreeBSD `sys/riscv/include/minidump.h` (header), `pte.h` and `vmparam.h` (the rest); little
//! endian.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/riscv",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
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
    flags: None,
    flags_since: u32::MAX,
    paemode: None,
    arm_arch: None,
    mmuformat: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[72, 80],
};

/// Bytes of an entry.
pub const PTE_SIZE: usize = 8;
/// Entry: valid.
pub const PTE_V: u64 = 1 << 0;
/// Entry: readable.
pub const PTE_R: u64 = 1 << 1;
/// Entry: writable.
pub const PTE_W: u64 = 1 << 2;
/// Entry: executable.
pub const PTE_X: u64 = 1 << 3;
/// Any of these makes a valid entry a leaf.
pub const PTE_RWX: u64 = PTE_R | PTE_W | PTE_X;
/// Bit at which the frame number begins.
pub const PTE_PPN0_S: u32 = 10;
/// Frame number of an entry, in place: 44 bits. Bits 54 to 63 belong to extensions.
pub const PTE_PPN_MASK: u64 = ((1 << 44) - 1) << PTE_PPN0_S;
/// L2 shift.
pub const L2_SHIFT: u32 = 21;
/// L3 shift.
pub const L3_SHIFT: u32 = 12;

/// `VM_MIN_KERNEL_ADDRESS`, also `KERNBASE`.
pub const VM_MIN_KERNEL_ADDRESS: u64 = 0xffff_ffc0_0000_0000;
/// `VM_MAX_KERNEL_ADDRESS`
pub const VM_MAX_KERNEL_ADDRESS: u64 = 0xffff_ffc8_0000_0000;
/// `DMAP_MIN_ADDRESS`
pub const DMAP_MIN_ADDRESS: u64 = 0xffff_ffd0_0000_0000;
/// `DMAP_MAX_ADDRESS`
pub const DMAP_MAX_ADDRESS: u64 = 0xffff_fff0_0000_0000;
