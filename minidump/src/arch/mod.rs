//! The architectures, one table row each.

pub mod amd64;
pub mod arm;
pub mod arm64;
pub mod i386;
pub mod mips;
pub mod powerpc64;
pub mod riscv;
pub mod tables;
pub mod walk;

use std::fmt;

use crate::arch::tables::{Tables, not_mapped};
use crate::{ByteOrder, MinidumpHeader, PhysAddr, ReadError, VirtAddr};
use livecore_defs::minidump::HeaderFields;

/// An architecture whose kernels write minidumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Arch {
    /// amd64
    #[default]
    Amd64,
    /// arm64
    Arm64,
    /// riscv64
    Riscv64,
    /// i386, with and without PAE
    I386,
    /// 32-bit arm
    Arm,
    /// powerpc64 and powerpc64le
    Powerpc64,
    /// mips, 32 and 64 bit
    Mips,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 7] = [
        Self::Amd64,
        Self::Arm64,
        Self::Riscv64,
        Self::I386,
        Self::Arm,
        Self::Powerpc64,
        Self::Mips,
    ];

    /// Where the fields of its minidump header are.
    pub fn fields(self) -> &'static HeaderFields {
        match self {
            Self::Amd64 => &livecore_defs::amd64::HEADER,
            Self::Arm64 => &livecore_defs::arm64::HEADER,
            Self::Riscv64 => &livecore_defs::riscv::HEADER,
            Self::I386 => &livecore_defs::i386::HEADER,
            Self::Arm => &livecore_defs::arm::HEADER,
            Self::Powerpc64 => &livecore_defs::powerpc64::HEADER,
            Self::Mips => &livecore_defs::mips::HEADER,
        }
    }

    /// FreeBSD's name of the port: `amd64`, `arm64`, `riscv`, `i386`, `arm`, `powerpc`, `mips`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Riscv64 => "riscv",
            Self::I386 => "i386",
            Self::Arm => "arm",
            Self::Powerpc64 => "powerpc64",
            Self::Mips => "mips",
        }
    }

    /// What a kerneldumpheader calls it (`MACHINE_ARCH`), as far as a minidump alone tells.
    pub fn machine_arch(self, order: ByteOrder) -> &'static str {
        match (self, order) {
            (Self::Amd64, _) => "amd64",
            (Self::Arm64, _) => "aarch64",
            (Self::Riscv64, _) => "riscv64",
            (Self::I386, _) => "i386",
            (Self::Arm, _) => "armv7",
            (Self::Powerpc64, ByteOrder::Big) => "powerpc64",
            (Self::Powerpc64, ByteOrder::Little) => "powerpc64le",
            (Self::Mips, ByteOrder::Big) => "mips",
            (Self::Mips, ByteOrder::Little) => "mipsel",
        }
    }

    /// `e_machine` of its kernels and of its full dumps (`EM_*` of the ELF specifications).
    pub fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
            Self::Riscv64 => 243,
            Self::I386 => 3,
            Self::Arm => 40,
            Self::Powerpc64 => 21,
            Self::Mips => 8,
        }
    }

    /// The kerneldumpheader's `architectureversion`.
    pub fn architectureversion(self) -> u32 {
        match self {
            Self::Amd64 | Self::I386 => 2,
            _ => 1,
        }
    }

    /// The physical address behind the kernel virtual address `at`, by the tables of a dump of this
    /// architecture.
    pub fn translate(self, tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        match self {
            Self::Amd64 => amd64::translate(tables, at),
            Self::Arm64 => arm64::translate(tables, at),
            Self::Riscv64 => riscv::translate(tables, at),
            Self::I386 => i386::translate(tables, at),
            Self::Arm => arm::translate(tables, at),
            Self::Powerpc64 => powerpc64::translate(tables, at),
            Self::Mips => mips::translate(tables, at),
        }
    }

    /// The address of the direct map at which the kernel finds physical `at`, if there is one: of
    /// mips, the cached one.
    pub fn direct_map_of(self, header: &MinidumpHeader, at: PhysAddr) -> Option<VirtAddr> {
        let va = match self {
            Self::I386 | Self::Arm => return None,
            Self::Amd64 => at.0.checked_add(header.dmapbase)?,
            Self::Arm64 | Self::Riscv64 => {
                at.0.checked_sub(header.dmapphys)?
                    .checked_add(header.dmapbase)?
            }
            Self::Powerpc64 => {
                let va = at.0.checked_add(header.dmapbase)?;
                return (va <= header.dmapend).then_some(VirtAddr(va));
            }
            Self::Mips => return mips::direct_map_of(header, at),
        };
        (header.dmapbase..header.dmapend)
            .contains(&va)
            .then_some(VirtAddr(va))
    }

    /// Whether its kernels come in either byte order.
    pub fn is_bi_endian(self) -> bool {
        matches!(self, Self::Arm | Self::Powerpc64 | Self::Mips)
    }
}

/// What is said of an address that neither the direct map nor the kernel map covers.
const OUTSIDE: &str = "it lies below the kernel map and outside of the direct map";

/// The physical address behind the address `offset` bytes above `kernbase`, by a section with one
/// entry per page.
fn translate_flat(
    tables: &dyn Tables,
    at: VirtAddr,
    offset: u64,
    form: &walk::Flat,
) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let page_size = header.page_size();
    let entry = tables.pmap_entry(at, offset / page_size, form.entry_size)?;
    match (form.leaf)(header, entry, at) {
        Ok(leaf) => Ok(PhysAddr(leaf.frame + at.offset_in(page_size))),
        Err(why) => not_mapped(at, why),
    }
}

/// The physical address behind an address of the direct map of arm64 and riscv.
fn direct(header: &MinidumpHeader, at: VirtAddr) -> Result<Option<PhysAddr>, ReadError> {
    if !(header.dmapbase..header.dmapend).contains(&at.0) {
        return Ok(None);
    }
    match (at.0 - header.dmapbase).checked_add(header.dmapphys) {
        Some(found) => Ok(Some(PhysAddr(found))),
        None => not_mapped(at, "the direct map runs over the end of physical memory"),
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
