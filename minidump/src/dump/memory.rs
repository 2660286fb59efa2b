//! Reads memory from a minidump.

use std::io;
use std::ops::ControlFlow;

use super::Dump;
use crate::memory::{DirectMap, DumpMemory, PageRun};
use crate::mmu::Mapping;
use crate::mmu::{Tables, WalkEnd, not_mapped, section};
use crate::{KernelMemory, MinidumpHeader, PhysAddr, ReadError, VirtAddr};

impl Dump {
    /// Reads `N` (4, 8 or 16) bytes at payload `offset`, a multiple of `N`, through the cache.
    fn table_bytes<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let page_size = self.layout.page_size();
        let base = offset - offset % page_size;
        let page = self.tables.page(&*self.envelope.content, base, page_size)?;
        let skip = (offset - base) as usize; // below the page size
        page.get(skip..)
            .and_then(|tail| tail.first_chunk())
            .copied()
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Returns the payload offset of entry `index` of the page-table section.
    fn pmap_offset(&self, at: VirtAddr, index: u64, size: u64) -> Result<u64, ReadError> {
        if index >= u64::from(self.mini.pmapsize) / size {
            return not_mapped(at, "beyond the page tables of the dump");
        }
        // The entry is in the section, which is in the payload, so this cannot overflow.
        Ok(self.layout.pmap_offset() + index * size)
    }

    /// Why the page at `at` is not in the dump.
    fn missing(&self, at: PhysAddr) -> ReadError {
        let seal = self.envelope.seal();
        let excluded = seal.and_then(|seal| seal.excluded.as_ref());
        match excluded.and_then(|excluded| excluded.class_of(at)) {
            Some(class) => ReadError::Excluded {
                at,
                class: class.into(),
            },
            None => ReadError::Hole { at },
        }
    }

    /// Returns the payload offset of the byte at `at`, or `None` if its page is not in the dump.
    pub fn offset_of(&self, at: PhysAddr) -> Option<u64> {
        let bit = self.ranges.bit_of(at)?;
        let page = self.layout.page_offset(self.bitmap.rank(bit)?)?;
        Some(page + at.offset_in(self.layout.page_size()))
    }
}

impl KernelMemory for Dump {
    fn page_size(&self) -> u64 {
        self.layout.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.read_phys_part(at, buf).1
    }

    fn read_phys_part(&self, at: PhysAddr, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
        let page_size = self.layout.page_size();
        let mut done = 0;
        while done < buf.len() {
            let Some(here) = at.checked_add(done as u64) else {
                return (done, Err(ReadError::Hole { at }));
            };
            let left = (buf.len() - done) as u64;
            let skip = here.offset_in(page_size);
            let found = self.ranges.bit_of(here).and_then(|bit| {
                let rank = self.bitmap.rank(bit)?;
                let (_, together) = self.ranges.run_of(bit)?;
                let limit = (left + skip).div_ceil(page_size).min(together);
                let run = self.bitmap.run_at(bit, limit);
                Some((self.layout.page_offset(rank)? + skip, run.end - run.start))
            });
            let Some((offset, pages)) = found else {
                return (done, Err(self.missing(here)));
            };
            let n = (pages * page_size - skip).min(left) as usize; // at most what is left of `buf`
            let out = &mut buf[done..done + n];
            match self.envelope.content.read_full_at(out, offset) {
                Err(source) => return (done, Err(ReadError::Io { at: here, source })),
                Ok(got) if got < n && self.zero_tail => out[got..].fill(0),
                Ok(got) if got < n => {
                    let at = PhysAddr(here.0 + got as u64);
                    let offset = offset + got as u64;
                    let size = self.envelope.content.size().unwrap_or(offset);
                    let end = size.min(offset);
                    return (done + got, Err(ReadError::BeyondEnd { at, offset, end }));
                }
                Ok(_) => {}
            }
            done += n;
        }
        (done, Ok(()))
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        section::translate(self, at)
    }
}

impl DumpMemory for Dump {
    fn offset_of(&self, at: PhysAddr) -> Option<u64> {
        Dump::offset_of(self, at)
    }

    fn run_at(&self, at: PhysAddr) -> PageRun {
        let page = self.layout.page_size();
        let start = at.align_down(page);
        let bit = self.ranges.bit_of(start);
        if let Some(bit) = bit.filter(|bit| self.bitmap.contains(*bit)) {
            let together = self.ranges.run_of(bit).map_or(1, |(_, pages)| pages);
            let pages = self.bitmap.run_at(bit, together);
            let len = (pages.end - pages.start).max(1).saturating_mul(page);
            return PageRun::present(start.checked_add(len));
        }
        // The next page in the dump: that of the first set bit from this address.
        let next = (self.ranges.ranges().iter())
            .filter(|segment| segment.end > start)
            .find_map(|segment| {
                let from = start.max(segment.start);
                let bit = self.bitmap.iter_from(self.ranges.bit_of(from)?).next()?;
                self.ranges.addr_of(bit)
            });
        PageRun::hole(next)
    }

    fn memory_end(&self) -> PhysAddr {
        self.ranges.end()
    }

    fn walk(&self, sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<WalkEnd, ReadError> {
        Dump::walk(self, sink)
    }

    fn direct_map(&self) -> Option<DirectMap> {
        let mini = &self.mini;
        (mini.dmapbase < mini.dmapend).then_some(DirectMap {
            addresses: VirtAddr(mini.dmapbase)..VirtAddr(mini.dmapend),
            phys: PhysAddr(mini.dmapphys),
        })
    }

    fn direct_map_of(&self, at: PhysAddr) -> Option<VirtAddr> {
        section::direct_map_of(&self.mini, at)
    }

    fn kernbase(&self) -> Option<VirtAddr> {
        Some(VirtAddr(self.mini.kernbase))
    }
}

impl Tables for Dump {
    fn header(&self) -> &MinidumpHeader {
        &self.mini
    }

    fn page_count(&self) -> u64 {
        self.bitmap.count()
    }

    fn pmap_entry(&self, at: VirtAddr, index: u64, size: usize) -> Result<u64, ReadError> {
        let offset = self.pmap_offset(at, index, size as u64)?;
        let order = self.mini.order;
        let io = |source| ReadError::Tables { at, source };
        let value = if size == 4 {
            order.uint(&self.table_bytes::<4>(offset).map_err(io)?)
        } else {
            order.uint(&self.table_bytes::<8>(offset).map_err(io)?)
        };
        // Four or eight bytes are always an integer.
        Ok(value.unwrap_or(0))
    }

    fn phys_entry(&self, at: VirtAddr, entry: PhysAddr) -> Result<u64, ReadError> {
        let Some(offset) = self.offset_of(entry) else {
            return not_mapped(at, "its page-table page is not in the dump");
        };
        match self.table_bytes::<8>(offset) {
            Ok(bytes) => Ok(self.mini.order.uint(&bytes).unwrap_or(0)),
            Err(_) if self.zero_tail && self.ends_before(offset + 8) => Ok(0),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::BeyondEnd {
                at: entry,
                offset,
                end: self.envelope.content.size().unwrap_or(offset),
            }),
            Err(source) => Err(ReadError::Tables { at, source }),
        }
    }

    fn pmap_pair(&self, at: VirtAddr, index: u64) -> Result<(u64, u64), ReadError> {
        let offset = self.pmap_offset(at, index, 16)?;
        let bytes = self
            .table_bytes::<16>(offset)
            .map_err(|source| ReadError::Tables { at, source })?;
        let pair = u128::from_be_bytes(bytes);
        Ok(((pair >> 64) as u64, pair as u64))
    }
}
