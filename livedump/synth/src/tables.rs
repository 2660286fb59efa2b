//! Page tables in the processor's format.

use super::error::Error;
use super::frames::Frames;
use super::store::Store;
use super::truth::Prot;

/// The format of table entries of one architecture.
pub(crate) trait Format: Sync {
    /// Address bits below the index of each level, from the root down.
    fn shifts(&self) -> &'static [u32];
    /// Number of translated address bits.
    fn va_bits(&self) -> u32;
    /// Entries per table, as a power of two.
    fn index_bits(&self) -> u32;
    /// Bytes of an entry.
    fn entry_size(&self) -> u64 {
        8
    }
    /// Returns an entry that points at the table at `pa`.
    fn table(&self, pa: u64) -> u64;
    /// Returns the table's address if `entry` points at one. `level` counts from the root.
    fn next(&self, level: usize, entry: u64) -> Option<u64>;
    /// Returns the same entry for user mode.
    fn user(&self, entry: u64) -> u64;
    /// Returns a leaf at `level` that maps `pa`.
    fn leaf(&self, level: usize, pa: u64, prot: Prot) -> u64;
}

/// A tree of page tables in the machine's memory.
pub(crate) struct Tables {
    format: &'static dyn Format,
    /// Whether user mode can use its entries.
    user: bool,
    /// Physical address of the root table.
    pub(crate) root: u64,
    /// The leaf table of the last mapping: virtual base and physical address.
    last: Option<(u64, u64)>,
    /// Every table: level from the root, first address it covers, physical address.
    pub(crate) made: Vec<(usize, u64, u64)>,
}

impl Tables {
    /// Creates a tree with an empty root.
    pub(crate) fn new(format: &'static dyn Format, store: &mut Store, root: u64) -> Self {
        store.page(root / 4096);
        Self {
            format,
            user: false,
            root,
            last: None,
            made: vec![(0, 0, root)],
        }
    }

    /// Creates a tree of a user process.
    pub(crate) fn user(format: &'static dyn Format, store: &mut Store, root: u64) -> Self {
        Self {
            user: true,
            ..Self::new(format, store, root)
        }
    }

    /// Returns the entry with the tree's access rights.
    fn entry(&self, entry: u64) -> u64 {
        if self.user {
            self.format.user(entry)
        } else {
            entry
        }
    }

    fn slot(&self, level: usize, va: u64) -> u64 {
        let va = va & ((1 << self.format.va_bits()) - 1);
        let index = va >> self.format.shifts()[level] & ((1 << self.format.index_bits()) - 1);
        index * self.format.entry_size()
    }

    fn read(&self, store: &Store, at: u64) -> u64 {
        let mut bytes = [0; 8];
        store.read(at, &mut bytes[..self.format.entry_size() as usize]);
        u64::from_le_bytes(bytes)
    }

    fn write(&self, store: &mut Store, at: u64, entry: u64) {
        let len = self.format.entry_size() as usize;
        store.write(at, &entry.to_le_bytes()[..len]);
    }

    /// Returns the table of `level` that covers `va`, and creates it if absent.
    pub(crate) fn table(
        &mut self,
        store: &mut Store,
        frames: &mut Frames,
        level: usize,
        va: u64,
    ) -> Result<u64, Error> {
        let mut table = self.root;
        for above in 0..level {
            let slot = table + self.slot(above, va);
            table = match self.format.next(above, self.read(store, slot)) {
                Some(next) => next,
                None => {
                    let size = self.format.entry_size() << self.format.index_bits();
                    let next = frames.one("page tables", size)?;
                    for frame in next / 4096..(next + size) / 4096 {
                        store.page(frame);
                    }
                    self.write(store, slot, self.entry(self.format.table(next)));
                    let base = va >> self.format.shifts()[above] << self.format.shifts()[above];
                    self.made.push((above + 1, base, next));
                    next
                }
            };
        }
        Ok(table)
    }

    /// Writes a raw entry to the table of `level` that covers `va`.
    pub(crate) fn set(
        &mut self,
        store: &mut Store,
        frames: &mut Frames,
        level: usize,
        va: u64,
        entry: u64,
    ) -> Result<(), Error> {
        let table = self.table(store, frames, level, va)?;
        self.write(store, table + self.slot(level, va), entry);
        Ok(())
    }

    /// Maps one leaf of `level`.
    pub(crate) fn map(
        &mut self,
        store: &mut Store,
        frames: &mut Frames,
        level: usize,
        va: u64,
        pa: u64,
        prot: Prot,
    ) -> Result<(), Error> {
        let bottom = self.format.shifts().len() - 1;
        let entry = self.entry(self.format.leaf(level, pa, prot));
        if level != bottom {
            return self.set(store, frames, level, va, entry);
        }
        let shift = self.format.shifts()[bottom - 1];
        let base = va >> shift << shift;
        let table = match self.last {
            Some((at, table)) if at == base => table,
            _ => self.table(store, frames, level, va)?,
        };
        self.last = Some((base, table));
        self.write(store, table + self.slot(level, va), entry);
        Ok(())
    }
}
