//! The radix page tables of powerpc64.
//!
//! The section is the root table, 64 KiB. The tables of the other three levels are pages of the dump;
//! the builder puts them into unused pages, or, for the one that maps a page, where `table VA PA` states.
//! Entries are big-endian in all kernels (FreeBSD `sys/powerpc/include/pte.h`, `aim/mmu_radix.c`).

use std::collections::BTreeMap;

use super::error::{BuildError, Result};
use super::ranges::Ranges;
use super::recipe::{Mapping, Recipe};
use super::tables::{Pmap, free_page};

/// Size of the root in bytes.
const ROOT: usize = 0x1_0000;
/// Address bits below each level's index.
const BELOW: [u32; 4] = [39, 30, 21, 12];
/// Valid.
const V: u64 = 1 << 63;
/// Leaf.
const L: u64 = 1 << 62;

/// Builds the tables for the recipe's mappings and adds them to `pages`. A mapping has the size of one
/// entry: 4 KiB, 2 MiB, 1 GiB or 512 GiB. `pte VA = N` sets an entry of the last level, `pde VA = N` one of
/// the level above.
pub(crate) fn build(
    recipe: &Recipe,
    avail: &Ranges,
    pages: &mut BTreeMap<u64, Vec<u8>>,
) -> Result<Pmap> {
    let mut tree = Tree {
        recipe,
        avail,
        pages,
        root: vec![0; ROOT],
        tables: BTreeMap::new(),
        found: Vec::new(),
    };
    for mapping in &recipe.maps {
        tree.map(mapping)?;
    }
    for raw in &recipe.entries {
        let level = if raw.leaf { 3 } else { 2 };
        tree.put(raw.line, raw.va, level, raw.value)?;
    }
    Ok(Pmap {
        bytes: tree.root,
        found: tree.found,
    })
}

struct Tree<'a> {
    recipe: &'a Recipe,
    avail: &'a Ranges,
    pages: &'a mut BTreeMap<u64, Vec<u8>>,
    root: Vec<u8>,
    /// Physical addresses of tables, by level and the address bits above their index.
    tables: BTreeMap<(usize, u64), u64>,
    found: Vec<u64>,
}

impl Tree<'_> {
    fn map(&mut self, m: &Mapping) -> Result<()> {
        let level = BELOW.iter().position(|below| m.size == 1 << below);
        let level = level.ok_or_else(|| BuildError::Value {
            line: m.line,
            what: "mapping size",
            found: m.size,
            expected: "4K, 2M, 1G or 512G".to_owned(),
        })?;
        // Referenced, changed, privileged, readable; writable, executable.
        let access = 0x18c | u64::from(m.prot.write) << 1 | u64::from(m.prot.execute);
        self.put(m.line, m.va, level, V | L | m.pa | access)?;
        let all = self.avail.pairs().iter().flat_map(|(start, end)| {
            let first = (*start).max(m.pa).next_multiple_of(0x1000);
            (first..(*end).min(m.pa + m.size)).step_by(0x1000)
        });
        self.found.extend(all);
        Ok(())
    }

    /// Sets the entry of `va` at `level`, and creates the tables above it.
    fn put(&mut self, line: usize, va: u64, level: usize, value: u64) -> Result<()> {
        let mut table = None;
        for upper in 0..level {
            let next = self.below(line, va, upper)?;
            // The number of bits of the table's index.
            self.store(table, va, upper, V | next | 9);
            table = Some(next);
        }
        self.store(table, va, level, value);
        Ok(())
    }

    /// The table that the entry of `va` at `level` points to.
    fn below(&mut self, line: usize, va: u64, level: usize) -> Result<u64> {
        let key = (level, va >> BELOW[level]);
        if let Some(pa) = self.tables.get(&key) {
            return Ok(*pa);
        }
        let stated = self.recipe.leaf_tables.get(&(va >> 21));
        let pa = match stated.filter(|_| level == 2) {
            Some((_, pa)) => *pa,
            None => free_page(self.recipe, self.avail, line, self.pages)?,
        };
        self.pages.entry(pa).or_insert_with(|| vec![0; 0x1000]);
        if self.avail.contains(pa) {
            self.found.push(pa);
        }
        self.tables.insert(key, pa);
        Ok(pa)
    }

    fn store(&mut self, table: Option<u64>, va: u64, level: usize, value: u64) {
        let index = va >> BELOW[level];
        let (bytes, index) = match table {
            None => (&mut self.root, index & 0x1fff),
            Some(pa) => (self.pages.entry(pa).or_default(), index & 0x1ff),
        };
        bytes.resize(bytes.len().max(0x1000), 0);
        let at = index as usize * 8;
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
}
