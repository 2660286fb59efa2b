//! The architectures, one row each: the facts about their machines that differ only in value.

use std::ops::Range;

use goblin::elf::header::{EM_386, EM_AARCH64, EM_RISCV, EM_X86_64};
use serde::{Deserialize, Serialize};

/// The processor architecture of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64, 4-level page tables.
    #[default]
    Amd64,
    /// 64-bit Arm, pages of 4 or 16 KiB.
    Aarch64,
    /// 64-bit RISC-V, Sv39.
    Riscv64,
    /// 32-bit x86, with and without PAE.
    I386,
}

/// What distinguishes the machines of one architecture.
pub(crate) struct Row {
    /// `MACHINE_ARCH`.
    name: &'static str,
    /// `e_machine`.
    pub(crate) elf_machine: u16,
    /// Supported page sizes, in bytes.
    pub(crate) page_sizes: &'static [u64],
    /// First physical address of RAM.
    pub(crate) ram: u64,
    /// First physical address of the second bank of RAM.
    ram2: u64,
    /// The part of the first bank that is not RAM.
    pc_hole: Range<u64>,
    /// Size of the largest machine, in bytes.
    pub(crate) max_size: u64,
    /// Offset from the start of RAM at which the loader puts the kernel. `None` if it depends on
    /// the release.
    pub(crate) load: Option<u64>,
    /// Whether kernels with one more level of page tables (`kernel.sv48`) are supported.
    pub(crate) sv48: bool,
    /// The kernel allocates no memory below this address.
    pub(crate) reserved: u64,
    /// Memory below this has no `struct vm_page`.
    pub(crate) unpaged: u64,
    /// Whether the kernel reaches the message buffer through the direct map. Otherwise it is
    /// mapped.
    pub(crate) msgbuf_in_direct_map: bool,
    /// Whether the `vm_page_array` is in the kernel map, if that has large leaves.
    pub(crate) maps_pages: bool,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const AMD64: Row = Row {
    name: "amd64",
    elf_machine: EM_X86_64,
    page_sizes: &[4096],
    ram: 0,
    ram2: 4 * GIB,
    pc_hole: 0xa0000..MIB,
    max_size: 1 << 40,
    load: Some(2 * MIB),
    sv48: false,
    reserved: 2 * MIB,
    unpaged: 0x10000,
    msgbuf_in_direct_map: true,
    maps_pages: true,
};

const AARCH64: Row = Row {
    name: "aarch64",
    elf_machine: EM_AARCH64,
    page_sizes: &[4096, 16384],
    // As on QEMU's and bhyve's machines.
    ram: GIB,
    ram2: 128 * GIB,
    pc_hole: 0..0,
    max_size: 1 << 40,
    load: Some(8 * MIB),
    sv48: false,
    reserved: GIB,
    unpaged: GIB,
    msgbuf_in_direct_map: false,
    maps_pages: true,
};

/// Memory beyond the addresses of processors without LPA2, in the range of one direct map.
const AARCH64_LPA2: Row = Row {
    ram: LPA2_RAM + GIB,
    ram2: LPA2_RAM + 128 * GIB,
    reserved: LPA2_RAM + GIB,
    unpaged: LPA2_RAM + GIB,
    ..AARCH64
};

/// Bit 50, which only LPA2 has.
const LPA2_RAM: u64 = 1 << 50;

const RISCV64: Row = Row {
    name: "riscv64",
    elf_machine: EM_RISCV,
    page_sizes: &[4096],
    ram: 2 * GIB,
    ram2: 18 * GIB,
    pc_hole: 0..0,
    // The size of the direct map.
    max_size: 64 * GIB,
    load: Some(2 * MIB),
    sv48: true,
    reserved: 2 * GIB,
    unpaged: 2 * GIB,
    msgbuf_in_direct_map: false,
    maps_pages: false,
};

const I386: Row = Row {
    name: "i386",
    elf_machine: EM_386,
    load: None,
    reserved: MIB,
    msgbuf_in_direct_map: false,
    ..AMD64
};

impl Architecture {
    /// The row of the architecture; `lpa2` is `kernel.lpa2`.
    pub(crate) fn row(self, lpa2: bool) -> &'static Row {
        match self {
            Self::Aarch64 if lpa2 => &AARCH64_LPA2,
            Self::Amd64 => &AMD64,
            Self::Aarch64 => &AARCH64,
            Self::Riscv64 => &RISCV64,
            Self::I386 => &I386,
        }
    }

    /// The names of the architectures whose row has `property`, for a message: `riscv64`.
    pub(crate) fn names_with(property: fn(&Row) -> bool) -> String {
        let all = [Self::Amd64, Self::Aarch64, Self::Riscv64, Self::I386];
        let rows = all.map(|architecture| architecture.row(false)).into_iter();
        let names: Vec<_> = rows
            .filter(|row| property(row))
            .map(|row| row.name)
            .collect();
        names.join(" and ")
    }

    /// `MACHINE_ARCH`.
    pub fn name(self) -> &'static str {
        self.row(false).name
    }
}

impl Row {
    /// RAM of `size` bytes, `low` of them in the first bank.
    pub(crate) fn ram(&self, size: u64, low: u64) -> Vec<Range<u64>> {
        let low = size.min(low);
        let first = self.ram..self.ram + low;
        let mut ram = match &self.pc_hole {
            hole if hole.is_empty() => vec![first],
            hole => vec![first.start..hole.start, hole.end..first.end],
        };
        if size > low {
            ram.push(self.ram2..self.ram2 + size - low);
        }
        ram
    }
}
