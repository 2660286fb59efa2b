//! The walk of the kernel map (`minidumpsys`).
//!
//! The kernel walks it twice, to count and to write; here one walk gives both the pages and the
//! page-table section. The `port` defines what is walked.

use std::ops::Range;

use livecore_minidump::{PhysAddr, PmapPages, ReadError, VirtAddr};

use super::error::TakeError;
use super::filter::Filter;
use super::marks::Marks;
use livecore_defs::paging::Geometry;
use livecore_minidump::mmu::Entry;
use livecore_minidump::mmu::{FoundEntry, MachineView, Root, decode, entries};

/// The result of the walk.
pub(super) struct Walked {
    /// The pages that were marked before, and those that it reached.
    pub(super) marks: Marks,
    /// The page-table section.
    pub(super) pmap: PmapPages,
    /// Pages of the section, including empty ones.
    pub(super) pmap_pages: u64,
    /// Page tables outside of memory, which are treated as empty.
    pub(super) lost_tables: u64,
}

/// A walk in progress.
pub(super) struct Walk<'a, 'f> {
    view: &'a MachineView,
    root: &'a Root,
    filter: &'a mut Filter<'f>,
    walked: Walked,
    /// Pages of the section that are not empty, and the pages of the machine's memory.
    kept: u64,
    most: u64,
    /// The last page table outside of memory, since one table is reached many times.
    lost: Option<u64>,
    /// Whether page tables that could not be dumped as pages are omitted from the section.
    asks_tables: bool,
    /// The first address of `crashdumpmap`.
    window: Option<VirtAddr>,
}

/// The format of a section with one entry for each page.
pub(super) struct Flat {
    /// The entry for a page of a block, from the block's entry and the page's frame.
    pub(super) synthetic: fn(u64, u64) -> u64,
    /// Whether a block above the directory's level is written completely, beyond the end of the
    /// walked range (arm64).
    pub(super) whole_blocks: bool,
    /// Whether the kernel reads tables through the first page of `crashdumpmap` while it walks
    /// (i386: `pmap_kenter_temporary`). The table that maps that page then maps itself.
    pub(super) through_window: bool,
}

impl<'a, 'f> Walk<'a, 'f> {
    pub(super) fn new(
        view: &'a MachineView,
        root: &'a Root,
        filter: &'a mut Filter<'f>,
        marks: Marks,
    ) -> Self {
        let memory = view.memory().ranges().iter();
        let memory = memory.fold(0, |sum: u64, r| sum.saturating_add(r.end.0 - r.start.0));
        Self {
            view,
            root,
            filter,
            walked: Walked {
                marks,
                pmap: PmapPages::new(),
                pmap_pages: 0,
                lost_tables: 0,
            },
            kept: 0,
            most: memory / root.paging.page_size(),
            lost: None,
            asks_tables: true,
            window: None,
        }
    }

    /// Includes all page tables in the section, also those that could not be dumped as pages.
    pub(super) fn write_all_tables(&mut self) {
        self.asks_tables = false;
    }

    /// Sets the address of `crashdumpmap`.
    pub(super) fn set_window(&mut self, at: Option<VirtAddr>) {
        self.window = at;
    }

    pub(super) fn done(self) -> Walked {
        self.walked
    }

    pub(super) fn geometry(&self) -> &'static Geometry {
        self.root.paging.geometry()
    }

    /// The value of `result`; counts a table outside of memory and returns `None` for it.
    fn in_memory<T>(
        &mut self,
        at: VirtAddr,
        result: Result<T, ReadError>,
    ) -> Result<Option<T>, TakeError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(ReadError::Hole { at }) => {
                let table = at.0 / self.root.paging.page_size();
                if self.lost.replace(table) != Some(table) {
                    self.walked.lost_tables += 1;
                }
                Ok(None)
            }
            Err(error) => Err(TakeError::Memory {
                what: format!("page table for {at}"),
                source: error,
            }),
        }
    }

    /// The entry for `at`, `depth` levels below the root, or above that where the tables end
    /// earlier; `None` if a table is outside of memory.
    pub(super) fn lookup(
        &mut self,
        at: VirtAddr,
        depth: usize,
    ) -> Result<Option<FoundEntry>, TakeError> {
        let found = self.view.lookup(self.root, at, depth);
        self.in_memory(at, found)
    }

    /// The table for `at` at `table`; `None` if it is outside of memory.
    pub(super) fn table(
        &mut self,
        at: VirtAddr,
        table: PhysAddr,
    ) -> Result<Option<Box<[u8]>>, TakeError> {
        let page = self.view.page(table);
        self.in_memory(at, page)
    }

    /// Decodes the entries of `table`, `depth` levels below the root.
    pub(super) fn decode<'t>(
        &self,
        depth: usize,
        table: &'t [u8],
    ) -> impl Iterator<Item = Entry> + use<'t> {
        let geometry = self.geometry();
        entries(table, geometry.entry_size).map(move |entry| decode(geometry, depth, entry))
    }

    /// Marks the pages in `range`.
    pub(super) fn mark(&mut self, range: Range<u64>) {
        self.walked.marks.add(range);
    }

    /// Marks the pages that the entries of `table`, `depth` levels below the root, map.
    pub(super) fn mark_leaves(&mut self, depth: usize, table: &[u8]) {
        let page = self.root.paging.page_size();
        for entry in self.decode(depth, table) {
            if let Entry::Leaf(frame) = entry {
                self.walked.marks.add(frame.0..frame.0 + page);
            }
        }
    }

    /// Adds a page of zeros to the section.
    pub(super) fn push_zero(&mut self) {
        self.walked.pmap_pages += 1;
    }

    /// Adds a page to the section.
    pub(super) fn push(&mut self, page: Box<[u8]>) -> Result<(), TakeError> {
        self.kept += 1;
        if self.kept > self.most {
            // The same tables are reached again and again.
            return Err(TakeError::Contradiction {
                what: "kernel_vm_end",
                found: format!("more than {} page tables", self.most),
                expected: "as many as fit in the machine's memory".into(),
            });
        }
        self.walked.pmap.insert(self.walked.pmap_pages, page);
        self.walked.pmap_pages += 1;
        Ok(())
    }

    /// Adds the table at `at` to the section: a page of zeros if the kernel could
    /// not dump it.
    pub(super) fn push_table(&mut self, at: PhysAddr, table: Box<[u8]>) -> Result<(), TakeError> {
        if !self.asks_tables || self.filter.allows(at.0) {
            self.push(table)
        } else {
            self.push_zero();
            Ok(())
        }
    }

    /// Writes a section with one entry for each page: a page of the section for each directory
    /// entry.
    pub(super) fn flat(&mut self, kva: Range<VirtAddr>, form: &Flat) -> Result<(), TakeError> {
        let geometry = self.geometry();
        let directory = geometry.levels.len() - 2;
        let step = geometry.directory().span();
        let mut end = kva.end;
        let mut at = kva.start;
        while at < end {
            match self.lookup(at, directory)? {
                Some(FoundEntry {
                    depth,
                    raw,
                    entry: Entry::Leaf(frame),
                }) => {
                    let span = geometry.levels[depth].span();
                    let start = frame.align_down(span).0 + (at.offset_in(span) & !(step - 1));
                    self.mark(start..start.saturating_add(step));
                    self.push(table_of_block(geometry, form, raw, start))?;
                    if form.whole_blocks {
                        end = end.max(VirtAddr(at.0 | (span - 1)).saturating_add(1));
                    }
                }
                Some(FoundEntry {
                    depth,
                    entry: Entry::Table(table),
                    ..
                }) if depth == directory => match self.table(at, table)? {
                    Some(page) => {
                        let window = self
                            .window
                            .filter(|va| va.offset_from(at).is_some_and(|offset| offset < step));
                        match window.filter(|_| form.through_window) {
                            Some(va) => {
                                let seen = seen_through(geometry, va, table, &page);
                                self.mark_leaves(directory + 1, &seen);
                            }
                            None => self.mark_leaves(directory + 1, &page),
                        }
                        self.push_table(table, page)?;
                    }
                    None => self.push_zero(),
                },
                _ => self.push_zero(),
            }
            match at.checked_add(step) {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(())
    }
}

/// The bytes of `page`, a table at `table`, as seen by a kernel that has mapped it at `va`, an
/// address that the table maps.
fn seen_through(geometry: &Geometry, va: VirtAddr, table: PhysAddr, page: &[u8]) -> Vec<u8> {
    let size = geometry.entry_size;
    // An index into the table, which is one page.
    let slot = geometry.bottom().index(va) as usize * size;
    let mut seen = page.to_vec();
    if let Some(entry) = seen.get_mut(slot..slot + size) {
        // Valid is bit 0 of i386's entries; a frame has the size of an entry.
        entry.copy_from_slice(&(table.0 | 1).to_le_bytes()[..size]);
    }
    seen
}

/// The page table for a block at `start` with the entry `raw`.
fn table_of_block(geometry: &Geometry, form: &Flat, raw: u64, start: u64) -> Box<[u8]> {
    let page_size = geometry.page_size();
    let mut page = vec![0; page_size as usize];
    for (index, slot) in (0_u64..).zip(page.chunks_exact_mut(geometry.entry_size)) {
        let frame = start.saturating_add(index * page_size);
        let entry = (form.synthetic)(raw, frame).to_le_bytes();
        // An entry has 4 or 8 bytes; a frame that needs more does not exist.
        slot.copy_from_slice(&entry[..geometry.entry_size]);
    }
    page.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_minidump::mmu::Paging;

    #[test]
    fn block_becomes_a_table_of_its_pages() {
        let form = Flat {
            synthetic: |raw, frame| frame | (raw & 0xfff),
            whole_blocks: false,
            through_window: false,
        };
        let geometry = Paging::I386.geometry();
        let page = table_of_block(geometry, &form, 0xffc0_0063, 0xffc0_0000);
        let entry = |i: usize| u32::from_le_bytes(page[4 * i..4 * i + 4].try_into().unwrap());
        assert_eq!(entry(0), 0xffc0_0063);
        assert_eq!(entry(1), 0xffc0_1063);
        assert_eq!(entry(1023), 0xffff_f063);
        let geometry = Paging::Arm64Pages16K.geometry();
        let page = table_of_block(geometry, &form, 0x703, 0x8200_0000);
        assert_eq!(page.len(), 16384);
        assert_eq!(page[8..16], 0x8200_4703_u64.to_le_bytes());
        assert_eq!(page[16376..], 0x83ff_c703_u64.to_le_bytes());
    }
}
