//! The kernel map from its lowest address up: every mapping, with its protection.

use std::ops::ControlFlow;

use crate::arch::tables::Tables;
use crate::{Arch, PhysAddr, ReadError, VirtAddr};
use livecore_defs::amd64::{
    NBPDR, NPTEPG, PAGE_SIZE, PG_FRAME, PG_PS, PG_PS_FRAME, PG_V, PTE_SIZE,
};

/// What the kernel may do with a page, besides reading it.
///
/// Where a dump's format loses it (blocks that were written out as pages), it is what the format
/// says: as a rule everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protection {
    /// Write to it.
    pub write: bool,
    /// Execute it.
    pub execute: bool,
}

/// One entry of the kernel's page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Bytes: a page, or a superpage.
    pub len: u64,
    /// What the kernel may do with it.
    pub protection: Protection,
}

/// Takes mappings until it has enough.
pub type Sink<'a> = dyn FnMut(Mapping) -> ControlFlow<()> + 'a;

/// How a walk has gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkEnd {
    /// Page-table pages that are not in the dump; what they map is not known.
    pub tables_missing: u64,
    /// Whether the sink has ended it.
    pub stopped: bool,
}

/// A page that an entry maps: its frame, and what the kernel may do with it.
pub(crate) struct Leaf {
    pub(crate) frame: u64,
    pub(crate) protection: Protection,
}

/// A page-table section with one entry per page.
pub(crate) struct Flat {
    pub(crate) entry_size: usize,
    /// The page that an entry maps at an address, or why it maps none.
    pub(crate) leaf: fn(&crate::MinidumpHeader, u64, VirtAddr) -> Result<Leaf, &'static str>,
}

/// Walks a section with one entry per page.
pub(crate) fn flat(
    tables: &dyn Tables,
    form: &Flat,
    sink: &mut Sink<'_>,
) -> Result<WalkEnd, ReadError> {
    let header = tables.header();
    let len = header.page_size();
    let mut end = WalkEnd::default();
    for index in 0..u64::from(header.pmapsize) / form.entry_size as u64 {
        let Some(va) = VirtAddr(header.kernbase).checked_add(index * len) else {
            break;
        };
        let entry = tables.pmap_entry(va, index, form.entry_size)?;
        let Ok(leaf) = (form.leaf)(header, entry, va) else {
            continue;
        };
        let mapping = Mapping {
            va,
            pa: PhysAddr(leaf.frame),
            len,
            protection: leaf.protection,
        };
        if sink(mapping).is_break() {
            end.stopped = true;
            break;
        }
    }
    Ok(end)
}

/// Walks amd64's page directories and the page tables behind them. A page may be written to and
/// executed if both entries say so.
///
/// Directories that name one table over and over would take a small dump for ever: of tables no more
/// are read than the dump has pages.
pub(crate) fn amd64(tables: &dyn Tables, sink: &mut Sink<'_>) -> Result<WalkEnd, ReadError> {
    let header = tables.header();
    let mut end = WalkEnd::default();
    let mut tables_left = tables.pages();
    for index in 0..u64::from(header.pmapsize) / PTE_SIZE as u64 {
        let Some(start) = VirtAddr(header.kernbase).checked_add(index * NBPDR) else {
            break;
        };
        let pde = tables.pmap_entry(start, index, PTE_SIZE)?;
        if pde & PG_V == 0 {
            continue;
        }
        let outer = super::amd64::protection(pde);
        if pde & PG_PS != 0 {
            let mapping = Mapping {
                va: start,
                pa: PhysAddr(pde & PG_PS_FRAME),
                len: NBPDR,
                protection: outer,
            };
            if sink(mapping).is_break() {
                end.stopped = true;
                return Ok(end);
            }
            continue;
        }
        let Some(left) = tables_left.checked_sub(1) else {
            end.tables_missing += 1;
            continue;
        };
        tables_left = left;
        for slot in 0..NPTEPG {
            let Some(va) = start.checked_add(slot * PAGE_SIZE) else {
                break;
            };
            let entry = PhysAddr((pde & PG_FRAME) + slot * PTE_SIZE as u64);
            let pte = match tables.phys_entry(va, entry) {
                Ok(pte) => pte,
                Err(ReadError::NotMapped { .. } | ReadError::BeyondEnd { .. }) => {
                    end.tables_missing += 1;
                    break;
                }
                Err(error) => return Err(error),
            };
            if pte & PG_V == 0 {
                continue;
            }
            let inner = super::amd64::protection(pte);
            let mapping = Mapping {
                va,
                pa: PhysAddr(pte & PG_FRAME),
                len: PAGE_SIZE,
                protection: Protection {
                    write: outer.write && inner.write,
                    execute: outer.execute && inner.execute,
                },
            };
            if sink(mapping).is_break() {
                end.stopped = true;
                return Ok(end);
            }
        }
    }
    Ok(end)
}

impl Arch {
    /// Gives every mapping of the kernel map to `sink`: ascending, but for powerpc64's, which come
    /// in the order of their hash. The direct map is none of them.
    pub fn walk(self, tables: &dyn Tables, sink: &mut Sink<'_>) -> Result<WalkEnd, ReadError> {
        match self {
            Self::Amd64 if tables.header().version == 1 => flat(tables, &super::amd64::FLAT, sink),
            Self::Amd64 => amd64(tables, sink),
            Self::Arm64 => flat(tables, &super::arm64::FLAT, sink),
            Self::Riscv64 => flat(tables, &super::riscv::FLAT, sink),
            Self::I386 => flat(tables, super::i386::form(tables.header()), sink),
            Self::Arm => flat(tables, &super::arm::FLAT, sink),
            Self::Mips => flat(tables, super::mips::form(tables.header()), sink),
            Self::Powerpc64 => super::powerpc64::walk(tables, sink),
        }
    }
}
