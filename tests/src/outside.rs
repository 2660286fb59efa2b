//! The pages that a minidump contains, computed from physical memory: an independent page-table
//! walk for x86, written from the kernel's `minidumpsys`.
//!
//! The result is the pages in `vm_page_dump`, plus every page that the kernel map reaches (large
//! mappings page by page, and on amd64 the page tables themselves), limited to `dump_avail`.
//! On FreeBSD 12.1 and 10.4 it equals the kernel's own bitmap, bit for bit.
//!
//! An i386 kernel maps each table at `crashdumpmap` while it reads it. When it reads the table that
//! maps that address, it therefore sees that table there.

use std::collections::BTreeSet;
use std::ops::Range;

/// Fills bytes from a physical address.
pub type Read<'a> = dyn Fn(u64, &mut [u8]) + 'a;

const PAGE: u64 = 4096;

/// The form of page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Four levels of 512 entries.
    Amd64,
    /// Two levels of 1,024 entries of 4 bytes.
    I386,
    /// Four pointers, then two levels of 512 entries.
    I386Pae,
}

fn number(read: &Read<'_>, at: u64, width: usize) -> u64 {
    let mut bytes = [0; 8];
    read(at, &mut bytes[..width]);
    u64::from_le_bytes(bytes)
}

/// Translates a virtual address.
pub fn translate(read: &Read<'_>, tables: Tables, root: u64, va: u64) -> Option<u64> {
    let entry = |table: u64, index: u64, width: u64| {
        let entry = number(read, table + index * width, width as usize);
        (entry & 1 == 1).then_some(entry)
    };
    let frame = |entry: u64, size: u64| entry & 0x000f_ffff_ffff_f000 & !(size - 1);
    let large = |entry: u64| entry & 0x80 != 0;
    match tables {
        Tables::Amd64 => {
            let top = entry(root, va >> 39 & 511, 8)?;
            let pdpe = entry(frame(top, PAGE), va >> 30 & 511, 8)?;
            if large(pdpe) {
                return Some(frame(pdpe, 1 << 30) + va % (1 << 30));
            }
            let pde = entry(frame(pdpe, PAGE), va >> 21 & 511, 8)?;
            if large(pde) {
                return Some(frame(pde, 2 << 20) + va % (2 << 20));
            }
            let pte = entry(frame(pde, PAGE), va >> 12 & 511, 8)?;
            Some(frame(pte, PAGE) + va % PAGE)
        }
        Tables::I386 => {
            let pde = entry(root, va >> 22 & 1023, 4)?;
            if large(pde) {
                return Some(frame(pde, 4 << 20) + va % (4 << 20));
            }
            let pte = entry(frame(pde, PAGE), va >> 12 & 1023, 4)?;
            Some(frame(pte, PAGE) + va % PAGE)
        }
        Tables::I386Pae => {
            let pdpe = entry(root, va >> 30 & 3, 8)?;
            let pde = entry(frame(pdpe, PAGE), va >> 21 & 511, 8)?;
            if large(pde) {
                return Some(frame(pde, 2 << 20) + va % (2 << 20));
            }
            let pte = entry(frame(pde, PAGE), va >> 12 & 511, 8)?;
            Some(frame(pte, PAGE) + va % PAGE)
        }
    }
}

/// The i386 page table that the directory entry for `va` points at, if there is one.
fn page_table_of_i386(read: &Read<'_>, tables: Tables, root: u64, va: u64) -> Option<u64> {
    let pde = match tables {
        Tables::Amd64 => return None,
        Tables::I386 => number(read, root + (va >> 22) * 4, 4),
        Tables::I386Pae => {
            let directory = number(read, root + (va >> 30) * 8, 8) & 0x000f_ffff_ffff_f000;
            number(read, directory + (va >> 21 & 511) * 8, 8)
        }
    };
    (pde & 0x81 == 1).then_some(pde & 0x000f_ffff_ffff_f000)
}

/// The amd64 page table that the directory entry for `va` points at, if there is one.
fn page_table(read: &Read<'_>, root: u64, va: u64) -> Option<u64> {
    let next = |table: u64, shift: u32| {
        let entry = number(read, table + (va >> shift & 511) * 8, 8);
        (entry & 1 == 1 && entry & 0x80 == 0).then_some(entry & 0x000f_ffff_ffff_f000)
    };
    next(next(next(root, 39)?, 30)?, 21)
}

/// The pages of a dump, by physical address.
///
/// `own` is the pages set in `vm_page_dump`, `kva` the range of virtual addresses to walk, `window`
/// the address of `crashdumpmap` on i386.
pub fn pages(
    read: &Read<'_>,
    tables: Tables,
    root: u64,
    kva: Range<u64>,
    own: impl Iterator<Item = u64>,
    dump_avail: &[Range<u64>],
    window: Option<u64>,
) -> BTreeSet<u64> {
    let mut pages = own.collect::<BTreeSet<_>>();
    let mut va = kva.start;
    while va < kva.end {
        // Skip the unmapped parts of the address space.
        let step = match tables {
            Tables::Amd64 if number(read, root + (va >> 39 & 511) * 8, 8) & 1 == 0 => 1 << 39,
            Tables::Amd64 => {
                let top = number(read, root + (va >> 39 & 511) * 8, 8) & 0x000f_ffff_ffff_f000;
                match number(read, top + (va >> 30 & 511) * 8, 8) & 1 {
                    0 => 1 << 30,
                    _ => PAGE,
                }
            }
            _ => PAGE,
        };
        if step == PAGE {
            if tables == Tables::Amd64 && va.is_multiple_of(2 << 20) {
                pages.extend(page_table(read, root, va));
            }
            if window == Some(va) {
                pages.extend(page_table_of_i386(read, tables, root, va));
            } else {
                pages.extend(translate(read, tables, root, va));
            }
        }
        match (va - va % step).checked_add(step) {
            Some(next) => va = next,
            None => break,
        }
    }
    pages.retain(|page| dump_avail.iter().any(|range| range.contains(page)));
    pages
}
