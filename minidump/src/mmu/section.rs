//! Translates addresses and lists mappings by the page-table section of a minidump.

use livecore_defs::paging::{Direct, Geometry, Section, Window};

use super::entry::{self, Entry, decode};
use super::hashed;
use super::mapping::{Mapping, Protection, Sink, WalkEnd};
use super::rooted;
use super::tables::{OUTSIDE, Tables, not_mapped};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};

const BELOW: &str = "the address is below the kernel map";

/// Translates the kernel virtual address `at` by the page tables of a dump.
///
/// # Errors
///
/// [`ReadError::NotMapped`] if no table maps it, or the error of reading the tables.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let section = header.section();
    match section {
        Section::Hashed => return hashed::translate(tables, at),
        Section::Root(geometry) => return rooted::translate(tables, geometry, at),
        _ => {}
    }
    let (first, outside) = match header.arch.direct {
        Direct::None => (false, BELOW),
        Direct::Linear { first, .. } => (first, OUTSIDE),
        Direct::Windows(_) => (true, OUTSIDE),
    };
    if first && let Some(found) = direct(header, at)? {
        return Ok(found);
    }
    if let Some(offset) = at.0.checked_sub(header.kernbase) {
        return lookup(tables, section, at, offset);
    }
    match direct(header, at)? {
        Some(found) => Ok(found),
        None => not_mapped(at, outside),
    }
}

/// Translates an address in the direct map.
fn direct(header: &MinidumpHeader, at: VirtAddr) -> Result<Option<PhysAddr>, ReadError> {
    match header.arch.direct {
        Direct::None => Ok(None),
        Direct::Linear { .. } => {
            if !(header.dmapbase..header.dmapend).contains(&at.0) {
                return Ok(None);
            }
            match (at.0 - header.dmapbase).checked_add(header.dmapphys) {
                Some(found) => Ok(Some(PhysAddr(found))),
                None => not_mapped(at, "the direct map exceeds the physical address space"),
            }
        }
        Direct::Windows(list) => {
            let mut windows = windows(header, list);
            let window = windows.find(|window| (window.start..=window.last).contains(&at));
            Ok(window.map(|window| PhysAddr(at.0 & window.mask)))
        }
    }
}

fn windows<'a>(
    header: &'a MinidumpHeader,
    list: &'static [Window],
) -> impl Iterator<Item = &'static Window> + 'a {
    list.iter().filter(|window| header.is(window.when))
}

/// The direct-map address of the physical address `at`, if there is one.
pub fn direct_map_of(header: &MinidumpHeader, at: PhysAddr) -> Option<VirtAddr> {
    let va = match header.arch.direct {
        Direct::None => return None,
        Direct::Linear { inclusive, .. } => {
            let va = at.0.checked_sub(header.dmapphys)?;
            let va = va.checked_add(header.dmapbase)?;
            (va < header.dmapend || inclusive && va == header.dmapend).then_some(va)?
        }
        Direct::Windows(list) => windows(header, list).find_map(|window| {
            let home = window.home?;
            (at.0 <= window.mask).then_some(home.0 + at.0)
        })?,
    };
    Some(VirtAddr(va))
}

/// Translates the address `at`, which is `offset` bytes above `kernbase`.
fn lookup(
    tables: &dyn Tables,
    section: Section,
    at: VirtAddr,
    offset: u64,
) -> Result<PhysAddr, ReadError> {
    let geometry = match section {
        Section::Pages(geometry) | Section::Directories(geometry) => geometry,
        Section::Hashed => return hashed::translate(tables, at),
        Section::Root(geometry) => return rooted::translate(tables, geometry, at),
        Section::Unread(size, why) => {
            let index = offset / tables.header().page_size();
            tables.pmap_entry(at, index, size)?;
            return not_mapped(at, why);
        }
    };
    let size = geometry.entry_size;
    let bottom = geometry.bottom();
    let raw = match section {
        Section::Directories(_) => {
            let (depth, directory) = directory(geometry);
            let raw = tables.pmap_entry(at, offset / directory.span(), size)?;
            match decode(geometry, depth, raw) {
                Entry::Table(table) => {
                    let slot = bottom.index(at) * size as u64;
                    tables.phys_entry(at, table.wrapping_add(slot))?
                }
                _ => return found(entry::leaf(geometry, directory, raw), at),
            }
        }
        _ => tables.pmap_entry(at, offset / bottom.span(), size)?,
    };
    found(entry::leaf(geometry, bottom, raw), at)
}

/// The level above the last one, and its depth below the root.
fn directory(geometry: &Geometry) -> (usize, &livecore_defs::paging::Level) {
    // Formats with a section of directories have at least two levels.
    let depth = geometry.levels.len().saturating_sub(2);
    (depth, &geometry.levels[depth])
}

fn found(leaf: Result<entry::Leaf, &'static str>, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    match leaf {
        Ok(leaf) => Ok(leaf.address(at)),
        Err(why) => not_mapped(at, why),
    }
}

/// Passes every mapping of the kernel map to `sink`, without the direct map. The order is ascending,
/// except in a hashed page table, where it is the order of the hash.
///
/// # Errors
///
/// The error of reading the tables. Tables that are not in the dump are counted.
pub fn walk(tables: &dyn Tables, sink: &mut Sink<'_>) -> Result<WalkEnd, ReadError> {
    match tables.header().section() {
        Section::Pages(geometry) => pages(tables, geometry, sink),
        Section::Directories(geometry) => directories(tables, geometry, sink),
        Section::Hashed => hashed::walk(tables, sink),
        Section::Root(geometry) => rooted::walk(tables, geometry, sink),
        Section::Unread(..) => Ok(WalkEnd::default()),
    }
}

/// Walks a section with one entry per page.
fn pages(
    tables: &dyn Tables,
    geometry: &Geometry,
    sink: &mut Sink<'_>,
) -> Result<WalkEnd, ReadError> {
    let header = tables.header();
    let bottom = geometry.bottom();
    let mut end = WalkEnd::default();
    for index in 0..u64::from(header.pmapsize) / geometry.entry_size as u64 {
        let Some(va) = VirtAddr(header.kernbase).checked_add(index * bottom.span()) else {
            break;
        };
        let raw = tables.pmap_entry(va, index, geometry.entry_size)?;
        let Ok(leaf) = entry::leaf(geometry, bottom, raw) else {
            continue;
        };
        let mapping = Mapping {
            va,
            pa: leaf.address(va),
            len: bottom.span(),
            protection: leaf.protection,
        };
        if sink(mapping).is_break() {
            end.stopped = true;
            break;
        }
    }
    Ok(end)
}

/// Walks a section of page directories and the page tables that they refer to. A page is writable or
/// executable if both entries allow it.
///
/// Reads at most as many tables as the dump has pages, so that directories of a damaged dump cannot
/// refer to the same table without limit.
fn directories(
    tables: &dyn Tables,
    geometry: &Geometry,
    sink: &mut Sink<'_>,
) -> Result<WalkEnd, ReadError> {
    let header = tables.header();
    let (depth, directory) = directory(geometry);
    let (bottom, size) = (geometry.bottom(), geometry.entry_size);
    let mut end = WalkEnd::default();
    let mut tables_left = tables.page_count();
    for index in 0..u64::from(header.pmapsize) / size as u64 {
        let Some(start) = VirtAddr(header.kernbase).checked_add(index * directory.span()) else {
            break;
        };
        let pde = tables.pmap_entry(start, index, size)?;
        let outer = entry::protection(geometry, pde);
        let table = match decode(geometry, depth, pde) {
            Entry::Invalid => continue,
            Entry::Leaf(frame) => {
                let mapping = Mapping {
                    va: start,
                    pa: frame.align_down(directory.span()),
                    len: directory.span(),
                    protection: outer,
                };
                if sink(mapping).is_break() {
                    end.stopped = true;
                    return Ok(end);
                }
                continue;
            }
            Entry::Table(table) => table,
        };
        let Some(left) = tables_left.checked_sub(1) else {
            end.tables_missing += 1;
            continue;
        };
        tables_left = left;
        for slot in 0..bottom.entries {
            let Some(va) = start.checked_add(slot * bottom.span()) else {
                break;
            };
            let pte = match tables.phys_entry(va, table.wrapping_add(slot * size as u64)) {
                Ok(pte) => pte,
                Err(ReadError::NotMapped { .. } | ReadError::BeyondEnd { .. }) => {
                    end.tables_missing += 1;
                    break;
                }
                Err(error) => return Err(error),
            };
            let Ok(inner) = entry::leaf(geometry, bottom, pte) else {
                continue;
            };
            let mapping = Mapping {
                va,
                pa: inner.address(va),
                len: bottom.span(),
                protection: Protection {
                    write: outer.write && inner.protection.write,
                    execute: outer.execute && inner.protection.execute,
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
