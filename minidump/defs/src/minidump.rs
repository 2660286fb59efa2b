//! What the minidump headers of all architectures share.
//!
//! FreeBSD `sys/*/include/minidump.h`, `struct minidumphdr`.
//!
//! A minidump is these sections, each padded with zeros to the page size of the dump:
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

/// What every minidump begins with, whatever the architecture.
pub const MAGIC_PREFIX: [u8; 8] = *b"minidump";

/// Bytes per page everywhere, except where [`crate::arm64::FLAG_PS_16K`] says otherwise.
pub const PAGE_SIZE: u64 = 4096;

/// Bytes of one `dump_avail` entry: two 64-bit addresses in kernel byte order, `[start, end)`.
pub const DUMP_AVAIL_ENTRY: usize = 16;

/// Where the fields of one architecture's header are. `None`: it has no such field.
#[derive(Debug, Clone, Copy)]
pub struct HeaderFields {
    /// The magic string, to be found NUL terminated in [`HeaderFields::magic`].
    pub magic_text: &'static str,
    /// The magic's field.
    pub magic: Field,
    /// The format's version, 1 to [`HeaderFields::last_version`].
    pub version: Field,
    /// The highest version known.
    pub last_version: u32,
    /// Length of the message buffer, before page rounding.
    pub msgbufsize: Field,
    /// Length of the bitmap.
    pub bitmapsize: Field,
    /// Length of the page-table section: `pmapsize`, or `ptesize` on i386, arm and mips.
    pub pmapsize: Field,
    /// Length of the `dump_avail` section.
    pub dumpavailsize: Field,
    /// The first version that has `dumpavailsize` and the section.
    pub dumpavail_since: u32,
    /// The lowest kernel address that the page-table section describes.
    pub kernbase: Field,
    /// powerpc64: the end of the kernel map.
    pub kernend: Option<Field>,
    /// The physical address behind `dmapbase`, where that is not 0.
    pub dmapphys: Option<Field>,
    /// The direct map's first address.
    pub dmapbase: Option<Field>,
    /// The direct map's end: exclusive, on powerpc64 inclusive.
    pub dmapend: Option<Field>,
    /// arm64: page size and more ([`crate::arm64::FLAG_PS_MASK`]).
    pub flags: Option<Field>,
    /// The first version that has `flags`.
    pub flags_since: u32,
    /// i386: whether page-table entries have 8 bytes.
    pub paemode: Option<Field>,
    /// arm: the compiler's architecture level.
    pub arm_arch: Option<Field>,
    /// arm: the form of page-table entries ([`crate::arm::MMUFORMAT_V6`] and kin).
    pub mmuformat: Option<Field>,
    /// powerpc64: the name of the pmap that ran, NUL padded.
    pub mmu_name: Option<Field>,
    /// powerpc64: whether the direct map has no page-table entries.
    pub hw_direct_map: Option<Field>,
    /// powerpc64: where the kernel's image begins.
    pub startkernel: Option<Field>,
    /// powerpc64: where the kernel's image ends.
    pub endkernel: Option<Field>,
    /// `sizeof(struct minidumphdr)` of each version, version `n` at index `n - 1`.
    pub sizeof: &'static [usize],
}
