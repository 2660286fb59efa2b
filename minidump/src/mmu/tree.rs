//! Walks a tree of page tables and lists its mappings.

use std::ops::{Range, RangeInclusive};

use super::entry::{Entry, decode, entries, protection};
use super::mapping::{Mapping, Protection, Sink, WalkEnd};
use super::view::Root;
use crate::{KernelMemory, PhysAddr, ReadError, VirtAddr};

/// Limits of a walk.
#[derive(Debug, Clone)]
pub struct Map<'a> {
    /// The addresses to list.
    pub addresses: RangeInclusive<VirtAddr>,
    /// Addresses to skip: the direct map.
    pub without: &'a Range<VirtAddr>,
    /// Maximum number of tables to read. A table is a page, so the number of pages is a limit.
    pub most_tables: u64,
}

/// Passes every mapping of `map` below `root` to `sink`, ascending. The tables are in `memory`.
///
/// # Errors
///
/// The error of reading a table. Tables that are not in memory are counted.
pub fn walk(
    memory: &dyn KernelMemory,
    root: &Root,
    map: &Map<'_>,
    sink: &mut Sink<'_>,
) -> Result<WalkEnd, ReadError> {
    let mut walk = Walk {
        memory,
        root,
        without: map.without,
        tables_left: map.most_tables,
        end: WalkEnd::default(),
        sink,
    };
    let all = Protection {
        write: true,
        execute: true,
    };
    let addresses = (*map.addresses.start(), *map.addresses.end());
    walk.table(root.table, 0, addresses, all)?;
    Ok(walk.end)
}

struct Walk<'a, 's> {
    memory: &'a dyn KernelMemory,
    root: &'a Root,
    without: &'a Range<VirtAddr>,
    tables_left: u64,
    end: WalkEnd,
    sink: &'a mut Sink<'s>,
}

impl Walk<'_, '_> {
    /// Reads the table at `at`. `None` if it is not in memory or the limit of tables is reached.
    fn read(&mut self, at: PhysAddr, len: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(left) = self.tables_left.checked_sub(1) else {
            return Ok(None);
        };
        self.tables_left = left;
        let mut bytes = vec![0; len];
        match self.memory.read_phys(at, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(
                ReadError::Hole { .. } | ReadError::Excluded { .. } | ReadError::BeyondEnd { .. },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the mappings of `from..=to` in the table at `table`, `depth` levels below the root.
    fn table(
        &mut self,
        table: PhysAddr,
        depth: usize,
        (from, to): (VirtAddr, VirtAddr),
        outer: Protection,
    ) -> Result<(), ReadError> {
        let geometry = self.root.paging.geometry();
        let level = &geometry.levels[depth];
        let len = geometry.entry_size * level.entries as usize;
        let Some(bytes) = self.read(table, len)? else {
            self.end.tables_missing += 1;
            return Ok(());
        };
        let list: Vec<u64> = entries(&bytes, geometry.entry_size).collect();
        let inside = level.span() - 1;
        let mut at = from;
        loop {
            let last = VirtAddr(at.0 | inside).min(to);
            // `index` returns less than the number of entries.
            let raw = list[level.index(at) as usize];
            let own = protection(geometry, raw);
            let both = Protection {
                write: outer.write && own.write,
                execute: outer.execute && own.execute,
            };
            match decode(geometry, depth, raw) {
                _ if self.without.contains(&at) => {}
                Entry::Invalid => {}
                Entry::Table(next) => {
                    let allowed = if geometry.restricts { both } else { outer };
                    // The last level has no tables.
                    self.table(next, depth + 1, (at, last), allowed)?;
                }
                Entry::Leaf(frame) => {
                    let mapping = Mapping {
                        va: at,
                        pa: level.address(frame, at),
                        len: last.0 - at.0 + 1,
                        protection: both,
                    };
                    self.end.stopped = (self.sink)(mapping).is_break();
                }
            }
            if self.end.stopped || last >= to {
                return Ok(());
            }
            at = VirtAddr(last.0 + 1);
        }
    }
}
