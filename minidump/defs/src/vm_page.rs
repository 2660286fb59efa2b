//! `struct vm_page` and `struct vm_phys_seg`: the flag for pages not to dump.
//!
//! FreeBSD `sys/vm/vm_page.h`, `sys/vm/vm_phys.h`. Kernels do not export these layouts. Those of
//! 64-bit kernels were compared with debug information of 10.4, 12.1 and 15.0; those of 32-bit kernels
//! are computed from the field lists.

/// The data model of a kernel's structures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Whether pointers have 8 bytes.
    pub is_64: bool,
    /// Size of `vm_paddr_t`.
    pub paddr: usize,
}

/// Pointers and physical addresses of 8 bytes.
pub const LP64: Model = Model {
    is_64: true,
    paddr: 8,
};

/// Pointers of 4 bytes, physical addresses of 8.
pub const ILP32: Model = Model {
    is_64: false,
    paddr: 8,
};

/// Pointers and physical addresses of 4 bytes.
pub const ILP32_NO_PAE: Model = Model {
    is_64: false,
    paddr: 4,
};

/// A layout of `struct vm_page`: the fields that determine whether a page is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmPage {
    /// `sizeof(struct vm_page)`.
    pub size: u64,
    /// Offset of `phys_addr`, a `vm_paddr_t`.
    pub phys_addr: u64,
    /// Offset of `flags`.
    pub flags: u64,
    /// `PG_NODUMP`, in the low byte of `flags`.
    pub nodump: u8,
}

/// `PG_NODUMP` in `flags` of 16 bits, up to 12.
pub const PG_NODUMP_16: u8 = 0x80;
/// `PG_NODUMP` in `flags` of 8 bits, since 13.
pub const PG_NODUMP_8: u8 = 0x10;

const fn vm_page(size: u64, phys_addr: u64, flags: u64, nodump: u8) -> VmPage {
    VmPage {
        size,
        phys_addr,
        flags,
        nodump,
    }
}

/// Known layouts, each with the lowest `osreldate` in which it occurs.
pub const VM_PAGES: [(u32, Model, VmPage); 7] = [
    // 15: no `listq`.
    (1_400_000, LP64, vm_page(88, 32, 78, PG_NODUMP_8)),
    (1_400_000, ILP32, vm_page(60, 20, 54, PG_NODUMP_8)),
    // 13 and 14: `flags` of 8 bits, after `struct vm_page_astate`.
    (1_300_000, LP64, vm_page(104, 48, 94, PG_NODUMP_8)),
    (1_300_000, ILP32, vm_page(68, 28, 62, PG_NODUMP_8)),
    // 10.4 and 12.1: `flags` of 16 bits.
    (0, LP64, vm_page(104, 48, 90, PG_NODUMP_16)),
    (0, ILP32, vm_page(72, 28, 58, PG_NODUMP_16)),
    (0, ILP32_NO_PAE, vm_page(68, 28, 54, PG_NODUMP_16)),
];

/// A layout of `struct vm_phys_seg`: `start` is at 0, `end` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmPhysSeg {
    /// `sizeof(struct vm_phys_seg)`.
    pub size: u64,
    /// Offset of `first_page`.
    pub first_page: usize,
}

const fn vm_phys_seg(size: u64, first_page: usize) -> VmPhysSeg {
    VmPhysSeg { size, first_page }
}

/// Known layouts, with and without `first_reserv`, on arm64 also with `md_first`.
pub const VM_PHYS_SEGS: [(Model, VmPhysSeg); 7] = [
    (LP64, vm_phys_seg(48, 16)),
    (LP64, vm_phys_seg(40, 16)),
    (LP64, vm_phys_seg(56, 16)),
    (ILP32, vm_phys_seg(32, 16)),
    (ILP32, vm_phys_seg(28, 16)),
    (ILP32_NO_PAE, vm_phys_seg(20, 8)),
    (ILP32_NO_PAE, vm_phys_seg(24, 8)),
];

/// Upper bound of the number of segments (`VM_PHYSSEG_MAX` is lower in all kernels).
pub const VM_PHYSSEG_LIMIT: u32 = 256;
