//! amd64.
//!
//! FreeBSD `sys/amd64/include/minidump.h` (header), `pmap.h` and `vmparam.h` (the rest); little
//! endian.
//!
//! | version | what changed                                                  |
//! |---------|---------------------------------------------------------------|
//! | 1       | the page map holds one PTE per kernel page                    |
//! | 2       | the page map holds one PDE per 2 MiB; same header             |
//! | 3       | adds `dumpavailsize`; the bitmap indexes those ranges         |

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/amd64",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 3,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(64, 4),
    dumpavail_since: 3,
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
    sizeof: &[64, 64, 72],
};

/// Bytes per page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes that a PDE maps: 2 MiB.
pub const NBPDR: u64 = 1 << 21;
/// Bytes that a PDPTE maps: 1 GiB.
pub const NBPDP: u64 = 1 << 30;
/// Entries in a page table of any level.
pub const NPTEPG: u64 = 512;
/// Bytes of an entry.
pub const PTE_SIZE: usize = 8;
/// Shift of the page-table index.
pub const PAGE_SHIFT: u32 = 12;
/// Shift of the page-directory index.
pub const PDRSHIFT: u32 = 21;
/// Shift of the page-directory-pointer index.
pub const PDPSHIFT: u32 = 30;
/// Shift of the PML4 index.
pub const PML4SHIFT: u32 = 39;

/// Entry: valid.
pub const PG_V: u64 = 1 << 0;
/// Entry: writable.
pub const PG_RW: u64 = 1 << 1;
/// Entry: a leaf of 2 MiB or 1 GiB.
pub const PG_PS: u64 = 1 << 7;
/// Entry: not executable.
pub const PG_NX: u64 = 1 << 63;
/// Frame of an entry: bits 12 to 51.
pub const PG_FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Frame of a 2 MiB leaf.
pub const PG_PS_FRAME: u64 = 0x000f_ffff_ffe0_0000;
/// Frame of a 1 GiB leaf.
pub const PG_PS_PDP_FRAME: u64 = 0x000f_ffff_c000_0000;

/// `VM_MIN_KERNEL_ADDRESS`: what a kernel writes as `kernbase` into a header of version 2 or 3.
pub const VM_MIN_KERNEL_ADDRESS: u64 = 0xffff_fe00_0000_0000;
/// `KERNBASE`: where the kernel's image is linked. Also version 1's `kernbase`.
pub const KERNBASE: u64 = 0xffff_ffff_8000_0000;
/// `KERNSTART`: the kernel's image begins one PDE above [`KERNBASE`], and is mapped from
/// `kernphys` up.
pub const KERNSTART: u64 = KERNBASE + NBPDR;
/// `kernphys` of a kernel that was not moved.
pub const KERNPHYS_USUAL: u64 = 0x20_0000;
/// `DMAP_MIN_ADDRESS` of the 48-bit layout: a constant, whatever the size of memory.
pub const DMAP_MIN_ADDRESS: u64 = 0xffff_f800_0000_0000;
/// `DMAP_MAX_ADDRESS` of the 48-bit layout, exclusive.
pub const DMAP_MAX_ADDRESS: u64 = 0xffff_fc00_0000_0000;
/// The direct map of the 57-bit layout (`kva_layout_la57`), first address.
pub const DMAP_MIN_ADDRESS_LA57: u64 = 0xff01_0000_0000_0000;
/// The direct map of the 57-bit layout, exclusive end.
pub const DMAP_MAX_ADDRESS_LA57: u64 = 0xff21_0000_0000_0000;
/// `PML4PML4I`: the entry of `KPML4phys` that points back at its own page.
pub const PML4PML4I: u64 = 256;
