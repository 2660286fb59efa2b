//! i386, with and without PAE.
//!
//! FreeBSD `sys/i386/include/minidump.h` (header), `pmap_pae.h`, `pmap_nopae.h` (entries); little
//! endian.
//!
//! Version 2 adds `dumpavailsize`; the bitmap indexes those ranges.

use crate::at;
use crate::minidump::HeaderFields;

/// `struct minidumphdr`
pub const HEADER: HeaderFields = HeaderFields {
    magic_text: "minidump FreeBSD/i386",
    magic: at(0, 24),
    version: at(24, 4),
    last_version: 2,
    msgbufsize: at(28, 4),
    bitmapsize: at(32, 4),
    pmapsize: at(36, 4),
    dumpavailsize: at(48, 4),
    dumpavail_since: 2,
    kernbase: at(40, 4),
    kernend: None,
    dmapphys: None,
    dmapbase: None,
    dmapend: None,
    flags: None,
    flags_since: u32::MAX,
    paemode: Some(at(44, 4)),
    arm_arch: None,
    mmuformat: None,
    mmu_name: None,
    hw_direct_map: None,
    startkernel: None,
    endkernel: None,
    sizeof: &[48, 52],
};

/// Bytes of an entry without PAE.
pub const PTE_SIZE: usize = 4;
/// Bytes of an entry with PAE.
pub const PTE_SIZE_PAE: usize = 8;
/// Entry: valid.
pub const PG_V: u64 = 1 << 0;
/// Entry: writable.
pub const PG_RW: u64 = 1 << 1;
/// Directory entry: a leaf of 4 MiB, with PAE of 2 MiB.
pub const PG_PS: u64 = 1 << 7;
/// Entry, PAE only: not executable.
pub const PG_NX: u64 = 1 << 63;
/// Frame of an entry without PAE.
pub const PG_FRAME: u64 = 0xffff_f000;
/// Frame of an entry with PAE.
pub const PG_FRAME_PAE: u64 = 0x000f_ffff_ffff_f000;
/// What is added to the frame when a large leaf is written out as PTEs: valid, writable,
/// accessed, modified. The leaf's other bits are lost.
pub const SYNTHETIC_PTE: u64 = 0x63;
/// Bytes that a directory entry maps without PAE.
pub const NBPDR: u64 = 1 << 22;
/// Bytes that a directory entry maps with PAE.
pub const NBPDR_PAE: u64 = 1 << 21;
