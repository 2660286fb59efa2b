//! The pmap section.
//!
//! FreeBSD `sys/<arch>/<arch>/minidump_machdep.c`. An entry of the section maps a page (amd64 from
//! version 2: 2 MiB). Absent tables are zeros, and a large mapping has one entry for each
//! page that it contains.

use std::collections::BTreeMap;

use super::arch::Tables;
use super::error::{BuildError, Result};
use super::ranges::Ranges;
use super::recipe::{Mapping, Protection, Recipe};

/// The section, and the pages that it maps.
#[derive(Debug)]
pub(crate) struct Pmap {
    /// The section's bytes; on arm not a whole number of pages.
    pub(crate) bytes: Vec<u8>,
    /// Physical addresses of pages to add to the bitmap.
    pub(crate) found: Vec<u64>,
}

/// The largest section in bytes.
const MAX_SECTION: u128 = 1 << 28;

struct Shape {
    /// Bytes that one entry maps.
    unit: u64,
    /// The section maps a multiple of this many bytes.
    span: u64,
    entry: usize,
}

fn shape(tables: Tables, version: u32, page: u64) -> Shape {
    let entry = tables.entry_size();
    let (unit, span) = match tables {
        Tables::Amd64 if version == 1 => (0x1000, 0x20_0000),
        Tables::Amd64 => (0x20_0000, 1 << 30),
        Tables::Arm => (0x1000, 0x10_0000),
        _ => (page, page * (page / entry as u64)),
    };
    Shape { unit, span, entry }
}

/// Builds the section for `recipe` and adds amd64's leaf tables to `pages`.
pub(crate) fn build(
    recipe: &Recipe,
    version: u32,
    avail: &Ranges,
    pages: &mut BTreeMap<u64, Vec<u8>>,
) -> Result<Pmap> {
    let tables = recipe.kind.arch().tables;
    let shape = shape(tables, version, recipe.page_size);
    let base = recipe.kernbase();
    let size = section_size(recipe, tables, version, &shape)?;
    let mut walk = Walk {
        recipe,
        tables,
        version,
        shape,
        base,
        bytes: vec![0; size],
        found: Vec::new(),
        leaf_tables: BTreeMap::new(),
        avail,
    };
    if let Tables::Mips { .. } = tables {
        // A TLB entry has one G bit for two pages, so invalid entries have it as well.
        for entry in walk.bytes.chunks_exact_mut(walk.shape.entry) {
            let low = if recipe.big() { entry.len() - 1 } else { 0 };
            entry[low] = 1;
        }
    }
    for mapping in &recipe.maps {
        walk.map(mapping, pages)?;
    }
    for raw in &recipe.entries {
        let leaf = raw.leaf && tables == Tables::Amd64 && version > 1;
        if leaf {
            walk.put_leaf(raw.line, raw.va, raw.value, pages)?;
        } else {
            walk.put(raw.line, raw.va, raw.value)?;
        }
    }
    Ok(Pmap {
        bytes: walk.bytes,
        found: walk.found,
    })
}

fn section_size(recipe: &Recipe, tables: Tables, version: u32, shape: &Shape) -> Result<usize> {
    let base = u128::from(recipe.kernbase());
    let mapped = recipe
        .maps
        .iter()
        .map(|m| u128::from(m.va) + u128::from(m.size))
        .max();
    let kernel = match tables {
        // KERNBASE + nkpt * 2 MiB with nkpt 256.
        Tables::Amd64 if version > 1 => 0xffff_ffff_8000_0000 + (256 << 21),
        _ => base + 1,
    };
    let derived = kernel.max(mapped.unwrap_or(0));
    let end = recipe.kernend.map_or(derived, u128::from).max(base + 1);
    let spans = (end - base).div_ceil(u128::from(shape.span));
    let bytes = spans * u128::from(shape.span / shape.unit) * shape.entry as u128;
    if bytes > MAX_SECTION {
        return Err(BuildError::Value {
            line: 0,
            what: "pmap section",
            found: u64::try_from(bytes).unwrap_or(u64::MAX),
            expected: format!("at most {MAX_SECTION:#x} bytes"),
        });
    }
    Ok(bytes as usize)
}

struct Walk<'a> {
    recipe: &'a Recipe,
    tables: Tables,
    version: u32,
    shape: Shape,
    base: u64,
    bytes: Vec<u8>,
    found: Vec<u64>,
    /// Physical address of the leaf table of each 2 MiB (amd64).
    leaf_tables: BTreeMap<u64, u64>,
    avail: &'a Ranges,
}

impl Walk<'_> {
    fn map(&mut self, m: &Mapping, pages: &mut BTreeMap<u64, Vec<u8>>) -> Result<()> {
        let page = self.recipe.page_size;
        let steps = m.size / self.shape.unit.min(m.size);
        let two_levels = self.tables == Tables::Amd64 && self.version > 1;
        if two_levels && m.size == 0x1000 {
            self.put_leaf(m.line, m.va, m.pa | amd64_flags(m.prot), pages)?;
        } else {
            self.check_size(m)?;
            for i in 0..steps {
                let offset = i * self.shape.unit;
                let entry = self.entry(m, offset);
                self.put(m.line, m.va + offset, entry)?;
            }
        }
        let all = (0..m.size / page.min(m.size)).map(|i| m.pa + i * page);
        self.found.extend(all.filter(|pa| self.avail.contains(*pa)));
        Ok(())
    }

    fn check_size(&self, m: &Mapping) -> Result<()> {
        let span = self.recipe.page_size * (self.recipe.page_size / 8);
        let allowed: &[u64] = match self.tables {
            Tables::Amd64 if self.version == 1 => &[0x1000, 0x20_0000],
            Tables::Amd64 => &[0x20_0000, 1 << 30],
            Tables::Arm64 if self.recipe.page_size == 0x4000 => &[0x4000, 32 << 20],
            Tables::Arm64 => &[0x1000, 0x20_0000, 1 << 30],
            Tables::Riscv => &[0x1000, span],
            Tables::I386 { pae: false } => &[0x1000, 0x40_0000],
            Tables::I386 { pae: true } => &[0x1000, 0x20_0000],
            Tables::Arm => &[0x1000, 0x1_0000, 0x10_0000],
            Tables::Hashed | Tables::Mips { .. } => &[0x1000],
        };
        if allowed.contains(&m.size) {
            return Ok(());
        }
        let expected = format!("one of {allowed:#x?}").replace('\n', "");
        Err(BuildError::Value {
            line: m.line,
            what: "mapping size",
            found: m.size,
            expected,
        })
    }

    /// The entry for the page at `offset` in mapping `m`.
    fn entry(&self, m: &Mapping, offset: u64) -> u64 {
        let pa = m.pa + offset;
        let large = m.size > self.shape.unit;
        let Protection { write, execute } = m.prot;
        let bit = |on: bool, n: u32| u64::from(on) << n;
        match self.tables {
            // A 2 MiB leaf, or one step of a 1 GiB leaf: PS set.
            Tables::Amd64 if self.version > 1 => pa | amd64_flags(m.prot) | 0x80,
            Tables::Amd64 => pa | amd64_flags(m.prot),
            // LPA2: the kernel writes bits 51 and 50 of an address to bits 9 and 8, except in the pages
            // of a block, which have no attributes but AF.
            Tables::Arm64 if self.recipe.dmapphys() >= 1 << 48 => {
                let attributes = 0x403 | bit(!write, 7) | bit(!execute, 53) | bit(!execute, 54);
                match large {
                    true => pa | 0x403,
                    false => pa & !(3 << 50) | pa >> 42 & 0x300 | attributes | 2 << 2,
                }
            }
            // The attributes of a block are lost: AF, inner shareable, page.
            Tables::Arm64 if large => pa | 0x703,
            Tables::Arm64 => pa | 0x703 | bit(!write, 7) | bit(!execute, 53) | bit(!execute, 54),
            // V, R, W, X, G, A, D.
            Tables::Riscv => {
                (pa >> 12) << 10 | 0x63 | bit(write, 2) | bit(execute, 3) | bit(write, 7)
            }
            // A large entry becomes V, RW, A, M pages.
            Tables::I386 { .. } if large => pa | 0x63,
            Tables::I386 { pae } => pa | 0x21 | bit(write, 1) | bit(pae && !execute, 63),
            // 64 KiB: a large-page descriptor, 16 times. A section becomes small pages.
            Tables::Arm if m.size == 0x1_0000 => m.pa | 0x11 | bit(!write, 7),
            Tables::Arm => pa | 0x12 | bit(!write, 7) | bit(!execute, 0),
            // G, V, D, cacheable.
            Tables::Mips { .. } => (pa >> 12) << 6 | 0x1b | bit(write, 2),
            Tables::Hashed => 0,
        }
    }

    /// Sets the section's entry for `va`.
    fn put(&mut self, line: usize, va: u64, value: u64) -> Result<()> {
        let outside = || BuildError::Value {
            line,
            what: "virtual address",
            found: va,
            expected: format!("an address in the pmap section, from {:#x}", self.base),
        };
        let index = va.checked_sub(self.base).ok_or_else(outside)? / self.shape.unit;
        let size = self.shape.entry;
        let at = usize::try_from(index)
            .ok()
            .and_then(|i| i.checked_mul(size));
        let inside = at.filter(|at| at.saturating_add(size) <= self.bytes.len());
        let at = inside.ok_or_else(outside)?;
        let mut entry = Vec::new();
        super::content::put_number(&mut entry, value, size, self.recipe.big(), line)?;
        self.bytes[at..at + size].copy_from_slice(&entry);
        Ok(())
    }

    /// Sets the entry of `va` in its leaf table (amd64), which is created on first use.
    fn put_leaf(
        &mut self,
        line: usize,
        va: u64,
        value: u64,
        pages: &mut BTreeMap<u64, Vec<u8>>,
    ) -> Result<()> {
        let table = match self.leaf_tables.get(&(va >> 21)) {
            Some(pa) => *pa,
            None => {
                let stated = self.recipe.leaf_tables.get(&(va >> 21)).map(|(_, pa)| *pa);
                let pa = match stated {
                    Some(pa) => pa,
                    None => free_page(self.recipe, self.avail, line, pages)?,
                };
                self.leaf_tables.insert(va >> 21, pa);
                // Valid, writable, accessed, modified.
                self.put(line, va & !0x1f_ffff, pa | 0x63)?;
                pages.entry(pa).or_insert_with(|| vec![0; 0x1000]);
                if self.avail.contains(pa) {
                    self.found.push(pa);
                }
                pa
            }
        };
        let page = pages.entry(table).or_insert_with(|| vec![0; 0x1000]);
        let at = ((va >> 12) & 511) as usize * 8;
        page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }
}

/// The highest unused page of the machine, or the highest one without contents if all are mapped.
pub(crate) fn free_page(
    recipe: &Recipe,
    avail: &Ranges,
    line: usize,
    pages: &BTreeMap<u64, Vec<u8>>,
) -> Result<u64> {
    let is_used = |pa: u64| {
        let mut stated = recipe.leaf_tables.values();
        let mut maps = recipe.maps.iter();
        maps.any(|m| pa >= m.pa && pa - m.pa < m.size) || stated.any(|(_, stated)| *stated == pa)
    };
    let mut mapped = None;
    for (start, end) in avail.pairs().iter().rev() {
        let mut pa = end / 0x1000 * 0x1000;
        while pa > *start && pa - 0x1000 >= *start {
            pa -= 0x1000;
            if pages.contains_key(&pa) {
                continue;
            }
            if !is_used(pa) {
                return Ok(pa);
            }
            mapped = mapped.or(Some(pa));
        }
    }
    mapped.ok_or(BuildError::Invalid {
        line,
        what: "dump_avail has no free page for a page table",
    })
}

/// Valid, accessed, global; writable and modified; no-execute.
fn amd64_flags(prot: Protection) -> u64 {
    0x121 | (u64::from(prot.write) * 0x42) | (u64::from(!prot.execute) << 63)
}
