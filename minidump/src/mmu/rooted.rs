//! Radix page tables of powerpc64.
//!
//! The section is the root table; the tables of the other levels are pages of the dump. All entries
//! are big-endian, also those of little-endian kernels. Addresses are handled as with hashed page
//! tables: those in the kernel file are relocated, and the direct map is checked first.

use livecore_defs::paging::Geometry;

use super::entry::{Entry, decode, protection};
use super::hashed::kernel_address;
use super::mapping::{Mapping, Sink, WalkEnd};
use super::tables::{OUTSIDE, Tables, not_mapped};
use crate::{ByteOrder, PhysAddr, ReadError, VirtAddr};

/// Translates `at` to a physical address.
pub(super) fn translate(
    tables: &dyn Tables,
    geometry: &Geometry,
    at: VirtAddr,
) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let va = kernel_address(header, at);
    if (header.dmapbase..=header.dmapend).contains(&va.0) {
        return Ok(PhysAddr(va.0 & !header.dmapbase));
    }
    if va.0 < header.kernbase {
        return not_mapped(at, OUTSIDE);
    }
    let mut table = None;
    for (depth, level) in geometry.levels.iter().enumerate() {
        let raw = read(tables, at, table, level.index(va))?;
        match decode(geometry, depth, raw) {
            Entry::Invalid => return not_mapped(at, level.missing),
            Entry::Leaf(frame) => return Ok(level.address(frame, va)),
            Entry::Table(next) => table = Some(next),
        }
    }
    // The rules of the last level have no tables.
    not_mapped(at, OUTSIDE)
}

/// Reads entry `index` of the table at this physical address, or of the root.
fn read(
    tables: &dyn Tables,
    at: VirtAddr,
    table: Option<PhysAddr>,
    index: u64,
) -> Result<u64, ReadError> {
    let Some(table) = table else {
        let (even, odd) = tables.pmap_pair(at, index / 2)?;
        return Ok(if index.is_multiple_of(2) { even } else { odd });
    };
    let raw = tables.phys_entry(at, table.wrapping_add(index * 8))?;
    Ok(match tables.header().order {
        ByteOrder::Big => raw,
        ByteOrder::Little => raw.swap_bytes(),
    })
}

/// Maximum number of pages that a walk passes on: 128 GiB of addresses. The kernel map of 15.0 has 32 GiB.
const MOST_PAGES: u64 = 1 << 25;

/// Walks the tables from the root, in ascending order.
///
/// Reads at most as many tables as the dump has pages, so that a damaged dump cannot refer to the
/// same tables without limit. An entry that exceeds [`MOST_PAGES`] counts as a missing table.
pub(super) fn walk(
    tables: &dyn Tables,
    geometry: &Geometry,
    sink: &mut Sink<'_>,
) -> Result<WalkEnd, ReadError> {
    let mut walk = Walk {
        tables,
        geometry,
        left: tables.page_count(),
        pages_left: MOST_PAGES,
        end: WalkEnd::default(),
    };
    let start = VirtAddr(tables.header().dmapbase);
    walk.table(0, None, start, sink)?;
    Ok(walk.end)
}

struct Walk<'a> {
    tables: &'a dyn Tables,
    geometry: &'a Geometry,
    /// The number of tables that may still be read.
    left: u64,
    /// The number of pages that may still be passed on.
    pages_left: u64,
    end: WalkEnd,
}

impl Walk<'_> {
    /// Walks a table of the level at `depth`, which maps addresses from `start`. The format has four
    /// levels.
    fn table(
        &mut self,
        depth: usize,
        table: Option<PhysAddr>,
        start: VirtAddr,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let header = self.tables.header();
        let Some(level) = self.geometry.levels.get(depth) else {
            return Ok(());
        };
        for index in 0..level.entries {
            let Some(va) = start.checked_add(index * level.span()) else {
                break;
            };
            let raw = match read(self.tables, va, table, index) {
                Ok(raw) => raw,
                Err(ReadError::NotMapped { .. } | ReadError::BeyondEnd { .. }) => {
                    self.end.tables_missing += 1;
                    break;
                }
                Err(error) => return Err(error),
            };
            // The tables also map the direct map.
            if va.0.saturating_add(level.span() - 1) < header.kernbase {
                continue;
            }
            match decode(self.geometry, depth, raw) {
                Entry::Invalid => {}
                Entry::Leaf(frame) if va.0 >= header.kernbase => {
                    let pages = level.span() / self.geometry.page_size();
                    let Some(left) = self.pages_left.checked_sub(pages) else {
                        self.end.tables_missing += 1;
                        continue;
                    };
                    self.pages_left = left;
                    let mapping = Mapping {
                        va,
                        pa: frame.align_down(level.span()),
                        len: level.span(),
                        protection: protection(self.geometry, raw),
                    };
                    if sink(mapping).is_break() {
                        self.end.stopped = true;
                    }
                }
                Entry::Leaf(_) => {}
                Entry::Table(next) => match self.left.checked_sub(1) {
                    Some(left) => {
                        self.left = left;
                        self.table(depth + 1, Some(next), va, sink)?;
                    }
                    None => self.end.tables_missing += 1,
                },
            }
            if self.end.stopped {
                break;
            }
        }
        Ok(())
    }
}
