//! The ABI of mem(4): requests and their arguments.
//!
//! FreeBSD `sys/sys/memrange.h`. Native byte order. Sizes and offsets are asserted here, and
//! compared with FreeBSD's own header if it is available.

use std::ffi::c_int;
use std::mem::offset_of;

use super::ioccom::{iow, iowr};

/// `_IOWR('m', 50, struct mem_range_op)`
pub const MEMRANGE_GET: u32 = iowr::<MemRangeOp>(b'm', 50);
/// `_IOW('m', 51, struct mem_range_op)`
pub const MEMRANGE_SET: u32 = iow::<MemRangeOp>(b'm', 51);
/// `_IOWR('m', 52, struct mem_extract)`
pub const MEM_EXTRACT_PADDR: u32 = iowr::<MemExtract>(b'm', 52);
/// `_IOW('m', 53, struct mem_livedump_arg)`
pub const MEM_KERNELDUMP: u32 = iow::<MemLivedumpArg>(b'm', 53);

/// `struct mem_range_desc`: one memory range.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemRangeDesc {
    /// Physical base address.
    pub mr_base: u64,
    /// Length in bytes.
    pub mr_len: u64,
    /// `MDF_*`: [`Mdf`].
    pub mr_flags: c_int,
    /// The owner: text, padded with NULs.
    pub mr_owner: [u8; 8],
    /// Padding of the compiler, named so that every byte is initialized.
    pub pad: u32,
}

/// `struct mem_range_op`: the argument of [`MEMRANGE_GET`] and [`MEMRANGE_SET`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MemRangeOp {
    /// The descriptors: `mo_arg[0]` of them to fill, or the one to set.
    pub mo_desc: *mut MemRangeDesc,
    /// GET: the number that fits, then the number of filled ones. SET: [`MEMRANGE_SET_UPDATE`] or
    /// [`MEMRANGE_SET_REMOVE`]. The second element is not used.
    pub mo_arg: [c_int; 2],
}

/// `struct mem_extract`: the argument of [`MEM_EXTRACT_PADDR`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemExtract {
    /// In: a virtual address of the calling process.
    pub me_vaddr: u64,
    /// Out: the physical address; set unless the state is [`MeState::Invalid`].
    pub me_paddr: u64,
    /// Out: the NUMA domain; set if the state is [`MeState::Mapped`].
    pub me_domain: c_int,
    /// Out: `ME_STATE_*`: [`MeState`].
    pub me_state: c_int,
    /// Reserved.
    pub me_pad: [u64; 5],
}

/// `struct mem_livedump_arg`: the argument of [`MEM_KERNELDUMP`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemLivedumpArg {
    /// The dump's file: open for writing, backed by a vnode.
    pub fd: c_int,
    /// Must be 0.
    pub flags: c_int,
    /// `KERNELDUMP_COMP_*`: 0 none, 1 gzip, 2 zstd.
    pub compression: u8,
    /// Reserved, ignored.
    pub pad1: [u8; 7],
    /// Reserved, ignored.
    pub pad2: [u64; 2],
}

/// `MEMRANGE_SET_UPDATE`
pub const MEMRANGE_SET_UPDATE: c_int = 0;
/// `MEMRANGE_SET_REMOVE`
pub const MEMRANGE_SET_REMOVE: c_int = 1;

/// `ME_STATE_*`: the state of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MeState {
    /// The address is not in the process's map.
    Invalid = 0,
    /// The address is in the map, but no page is mapped now.
    Valid = 1,
    /// A page is mapped; physical address and domain are set.
    Mapped = 2,
}

impl MeState {
    /// The state for a raw value; `None` for other values.
    pub fn from_raw(raw: c_int) -> Option<Self> {
        match raw {
            0 => Some(Self::Invalid),
            1 => Some(Self::Valid),
            2 => Some(Self::Mapped),
            _ => None,
        }
    }
}

/// `MDF_*`: memory type and flags of a memory range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mdf(pub u32);

impl Mdf {
    /// Not cached.
    pub const UNCACHEABLE: Self = Self(0x0000_0001);
    /// Writes may be combined or out of order.
    pub const WRITECOMBINE: Self = Self(0x0000_0002);
    /// Writes are committed synchronously.
    pub const WRITETHROUGH: Self = Self(0x0000_0004);
    /// Writes are committed asynchronously.
    pub const WRITEBACK: Self = Self(0x0000_0008);
    /// Cannot be written to.
    pub const WRITEPROTECT: Self = Self(0x0000_0010);
    /// The hardware's memory type is not one of these.
    pub const UNKNOWN: Self = Self(0x0000_0020);
    /// All memory type bits.
    pub const ATTRMASK: Self = Self(0x00ff_ffff);
    /// The base cannot be changed.
    pub const FIXBASE: Self = Self(0x0100_0000);
    /// The length cannot be changed.
    pub const FIXLEN: Self = Self(0x0200_0000);
    /// Set by the firmware, probably.
    pub const FIRMWARE: Self = Self(0x0400_0000);
    /// Active.
    pub const ACTIVE: Self = Self(0x0800_0000);
    /// Invalid, probably.
    pub const BOGUS: Self = Self(0x1000_0000);
    /// Cannot be disabled.
    pub const FIXACTIVE: Self = Self(0x2000_0000);
    /// Owned by another process; may not be changed. FreeBSD never sets it.
    pub const BUSY: Self = Self(0x4000_0000);
    /// Requests a change that is otherwise refused.
    pub const FORCE: Self = Self(0x8000_0000);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The common bits.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The bits that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The memory type bits.
    #[must_use]
    pub fn attributes(self) -> Self {
        self.and(Self::ATTRMASK)
    }

    /// The value for [`MemRangeDesc::mr_flags`], where [`Mdf::FORCE`] is the sign.
    pub fn to_raw(self) -> c_int {
        self.0.cast_signed()
    }

    /// Converts [`MemRangeDesc::mr_flags`].
    pub fn from_raw(raw: c_int) -> Self {
        Self(raw.cast_unsigned())
    }
}

impl std::ops::BitOr for Mdf {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::fmt::Debug for Mdf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mdf({:#x})", self.0)
    }
}

const _: () = {
    assert!(size_of::<MemRangeDesc>() == 32);
    assert!(offset_of!(MemRangeDesc, mr_base) == 0);
    assert!(offset_of!(MemRangeDesc, mr_len) == 8);
    assert!(offset_of!(MemRangeDesc, mr_flags) == 16);
    assert!(offset_of!(MemRangeDesc, mr_owner) == 20);
    assert!(offset_of!(MemRangeDesc, pad) == 28);

    assert!(offset_of!(MemRangeOp, mo_desc) == 0);
    assert!(offset_of!(MemRangeOp, mo_arg) == size_of::<usize>());

    assert!(size_of::<MemExtract>() == 64);
    assert!(offset_of!(MemExtract, me_vaddr) == 0);
    assert!(offset_of!(MemExtract, me_paddr) == 8);
    assert!(offset_of!(MemExtract, me_domain) == 16);
    assert!(offset_of!(MemExtract, me_state) == 20);
    assert!(offset_of!(MemExtract, me_pad) == 24);

    assert!(size_of::<MemLivedumpArg>() == 32);
    assert!(offset_of!(MemLivedumpArg, fd) == 0);
    assert!(offset_of!(MemLivedumpArg, flags) == 4);
    assert!(offset_of!(MemLivedumpArg, compression) == 8);
    assert!(offset_of!(MemLivedumpArg, pad1) == 9);
    assert!(offset_of!(MemLivedumpArg, pad2) == 16);

    assert!(MEM_EXTRACT_PADDR == 0xc040_6d34);
    assert!(MEM_KERNELDUMP == 0x8020_6d35);
};

/// The two requests whose argument contains a pointer.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<MemRangeOp>() == 16);
    assert!(MEMRANGE_GET == 0xc010_6d32);
    assert!(MEMRANGE_SET == 0x8010_6d33);
};

#[cfg(target_pointer_width = "32")]
const _: () = {
    assert!(size_of::<MemRangeOp>() == 12);
    assert!(MEMRANGE_GET == 0xc00c_6d32);
    assert!(MEMRANGE_SET == 0x800c_6d33);
};
