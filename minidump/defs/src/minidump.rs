//! The common part of the minidump headers of all architectures.
//!
//! FreeBSD `sys/*/include/minidump.h`, `struct minidumphdr`.
//!
//! A minidump consists of these sections, each padded with zeros to the page size of the dump:
//!
//! | # | section      | length before padding | content                                          |
//! |---|--------------|-----------------------|--------------------------------------------------|
//! | 1 | header       | one page              | `struct minidumphdr`, the rest zero              |
//! | 2 | `msgbuf`     | `msgbufsize`          | the ring, not unwrapped                          |
//! | 3 | `dump_avail` | `dumpavailsize`       | pairs of u64, until a pair whose second is 0     |
//! | 4 | bitmap       | `bitmapsize`          | one bit per physical page                        |
//! | 5 | pmap         | `pmapsize`/`ptesize`  | page-table pages of the kernel map               |
//! | 6 | data         | a page per set bit    | ascending bit number                             |

use crate::Field;

/// The first bytes of every minidump.
pub const MAGIC_PREFIX: [u8; 8] = *b"minidump";

/// The page size, except for dumps with [`crate::arm64::FLAG_PS_16K`].
pub const PAGE_SIZE: u64 = 4096;

/// Size of a `dump_avail` entry: two 64-bit addresses in the kernel's byte order, `[start, end)`.
pub const DUMP_AVAIL_ENTRY: usize = 16;

/// The fields of one architecture's header. `None`: the header has no such field.
#[derive(Debug, Clone, Copy)]
pub struct HeaderFields {
    /// The magic string, NUL terminated in [`HeaderFields::magic`].
    pub magic_text: &'static str,
    /// The magic's field.
    pub magic: Field,
    /// The format's version, 1 to [`HeaderFields::last_version`].
    pub version: Field,
    /// The highest known version.
    pub last_version: u32,
    /// Length of the message buffer, before page rounding.
    pub msgbufsize: Field,
    /// Length of the bitmap.
    pub bitmapsize: Field,
    /// Length of the page-table section: `pmapsize`, or `ptesize` on i386, arm and mips.
    pub pmapsize: Field,
    /// Length of the `dump_avail` section.
    pub dumpavailsize: Field,
    /// The first version with `dumpavailsize` and the section.
    pub dumpavail_since: u32,
    /// The lowest kernel address that the page-table section describes.
    pub kernbase: Field,
    /// powerpc64: the end of the kernel map.
    pub kernend: Option<Field>,
    /// The physical address of `dmapbase`, where it is not always 0.
    pub dmapphys: Option<Field>,
    /// The direct map's first address.
    pub dmapbase: Option<Field>,
    /// The direct map's end: exclusive, except on powerpc64.
    pub dmapend: Option<Field>,
    /// arm64: page size and more ([`crate::arm64::FLAG_PS_MASK`]).
    pub flags: Option<Field>,
    /// The first version with `flags`.
    pub flags_since: u32,
    /// i386: whether page-table entries have 8 bytes.
    pub paemode: Option<Field>,
    /// arm: the compiler's architecture level.
    pub arm_arch: Option<Field>,
    /// arm: the format of page-table entries, such as [`crate::arm::MMUFORMAT_V6`].
    pub mmuformat: Option<Field>,
    /// arm: the address that the kernel is linked at (`KERNVIRTADDR`), 0 from kernels without the
    /// field. No version states that the header has it.
    pub kernvirtaddr: Option<Field>,
    /// powerpc64: the name of the pmap module, padded with NUL.
    pub mmu_name: Option<Field>,
    /// powerpc64: whether the direct map has no page-table entries.
    pub hw_direct_map: Option<Field>,
    /// powerpc64: start of the kernel image.
    pub startkernel: Option<Field>,
    /// powerpc64: end of the kernel image.
    pub endkernel: Option<Field>,
    /// `sizeof(struct minidumphdr)` of each version, version `n` at index `n - 1`.
    pub sizeof: &'static [usize],
}
