//! Iterates over the pages of a dump with their kernel addresses.

use std::ops::ControlFlow;

use crate::mmu::{Mapping, Protection, WalkEnd, section};
use crate::{Dump, Error, PhysAddr, ReadError, VirtAddr};

/// A page of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// Its physical address.
    pub pa: PhysAddr,
    /// Its offset in the payload.
    pub offset: u64,
    /// Its address in the direct map, which is readable and writable.
    pub direct: Option<VirtAddr>,
    /// Its addresses in the kernel map, ascending.
    pub kernel: &'a [KernelAddress],
}

/// An address of a page in the kernel map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelAddress {
    /// The index of the page in the dump.
    rank: u32,
    /// The address and, in the lowest bits, the protection. The address is page-aligned.
    packed: [u32; 2],
}

const WRITE: u64 = 1;
const EXECUTE: u64 = 2;

impl KernelAddress {
    fn new(rank: u32, va: VirtAddr, protection: Protection) -> Self {
        let bits =
            if protection.write { WRITE } else { 0 } | if protection.execute { EXECUTE } else { 0 };
        let packed = va.0 | bits;
        Self {
            rank,
            packed: [(packed >> 32) as u32, packed as u32],
        }
    }

    fn unpacked(self) -> u64 {
        u64::from(self.packed[0]) << 32 | u64::from(self.packed[1])
    }

    /// The address.
    pub fn va(self) -> VirtAddr {
        VirtAddr(self.unpacked() & !(WRITE | EXECUTE))
    }

    /// The protection of the page at this address.
    pub fn protection(self) -> Protection {
        Protection {
            write: self.unpacked() & WRITE != 0,
            execute: self.unpacked() & EXECUTE != 0,
        }
    }
}

/// The pages of a dump and the inverse of the kernel map. It uses 12 bytes per mapped page.
pub struct Pages<'a> {
    dump: &'a Dump,
    addresses: Vec<KernelAddress>,
    end: WalkEnd,
}

impl Dump {
    /// Passes every mapping of the kernel map to `sink`, whether or not its page is in the dump.
    ///
    /// # Errors
    ///
    /// Returns [`ReadError`] if the page tables cannot be read. Tables that are not in the dump are counted.
    pub fn walk(
        &self,
        sink: &mut dyn FnMut(Mapping) -> ControlFlow<()>,
    ) -> Result<WalkEnd, ReadError> {
        section::walk(self, sink)
    }

    /// Returns the dump's pages with their addresses.
    ///
    /// `limit` is the maximum average number of addresses per page, to limit memory use. 16 is
    /// sufficient for all kernels.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Options`] if the map exceeds `limit`, or another error if the page tables
    /// cannot be read.
    pub fn pages(&self, limit: u32) -> Result<Pages<'_>, Error> {
        let page_size = self.layout().page_size();
        let max = (self.bitmap().count() + 1).saturating_mul(u64::from(limit));
        let mut addresses = Vec::new();
        let mut full = false;
        let end = self.walk(&mut |mapping| {
            for index in 0..mapping.len / page_size {
                let skip = index * page_size;
                let (Some(pa), Some(va)) =
                    (mapping.pa.checked_add(skip), mapping.va.checked_add(skip))
                else {
                    break;
                };
                let rank = self
                    .dump_avail()
                    .bit_of(pa)
                    .and_then(|bit| self.bitmap().rank(bit))
                    // A bitmap has fewer than 2^32 pages.
                    .and_then(|rank| u32::try_from(rank).ok());
                let Some(rank) = rank else {
                    continue;
                };
                if addresses.len() as u64 >= max {
                    full = true;
                    return ControlFlow::Break(());
                }
                addresses.push(KernelAddress::new(rank, va, mapping.protection));
            }
            ControlFlow::Continue(())
        });
        let end = end.map_err(|e| match e {
            ReadError::Io { source, .. } | ReadError::Tables { source, .. } => source.into(),
            other => Error::broken(
                "page tables",
                self.layout().pmap_offset(),
                other.to_string(),
                "readable page tables",
            ),
        })?;
        if full {
            return Err(Error::Options(format!(
                "the kernel map has more than {limit} addresses per page of the dump"
            )));
        }
        addresses.sort_unstable();
        Ok(Pages {
            dump: self,
            addresses,
            end,
        })
    }
}

impl Pages<'_> {
    /// The number of page tables that are not in the dump. Their mappings are unknown.
    pub fn tables_missing(&self) -> u64 {
        self.end.tables_missing
    }

    /// Iterates over the pages in ascending order of physical address.
    pub fn iter(&self) -> impl Iterator<Item = Page<'_>> + '_ {
        let dump = self.dump;
        let mut rest = self.addresses.as_slice();
        dump.bitmap()
            .iter()
            .enumerate()
            .map_while(move |(rank, bit)| {
                let mine = rest.partition_point(|a| a.rank as usize <= rank);
                let (kernel, others) = rest.split_at(mine);
                rest = others;
                let pa = dump.dump_avail().addr_of(bit)?;
                Some(Page {
                    pa,
                    offset: dump.layout().page_offset(rank as u64)?,
                    direct: section::direct_map_of(dump.header(), pa),
                    kernel,
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::tests::{open, payload};

    #[test]
    fn address_and_protection_are_packed_and_unpacked() {
        let protection = Protection {
            write: false,
            execute: true,
        };
        let address = KernelAddress::new(7, VirtAddr(0xffff_ffff_8000_1000), protection);
        assert_eq!(address.va(), VirtAddr(0xffff_ffff_8000_1000));
        assert_eq!(address.protection(), protection);
        assert_eq!(size_of::<KernelAddress>(), 12);
    }

    #[test]
    fn every_page_is_returned_once_with_all_its_addresses() {
        let dump = open(payload(3)).unwrap();
        let pages = dump.pages(16).unwrap();
        let found: Vec<_> = pages
            .iter()
            .map(|p| {
                (
                    p.pa.0,
                    p.kernel.iter().map(|k| k.va().0).collect::<Vec<_>>(),
                )
            })
            .collect();
        let kernbase = 0xffff_fe00_0000_0000;
        // The 2 MiB leaf maps 0x20_0000, which has no page in the dump.
        assert_eq!(
            found,
            [
                (0x1000, vec![]),
                (0x2000, vec![]),
                (0x3000, vec![]),
                (0x10_0000, vec![]),
                (0x10_2000, vec![kernbase + 0x5000]),
                (0x10_3000, vec![]),
            ]
        );
        assert_eq!(pages.tables_missing(), 1);
        for page in pages.iter() {
            assert_eq!(
                page.direct,
                Some(VirtAddr(0xffff_f800_0000_0000 + page.pa.0))
            );
            assert_eq!(dump.offset_of(page.pa), Some(page.offset));
        }
        let mapped = pages.iter().find(|p| p.pa.0 == 0x10_2000).unwrap();
        // The entries are writable. The inner one is not executable.
        let protection = mapped.kernel[0].protection();
        assert!(protection.write && !protection.execute);
        assert!(matches!(dump.pages(0), Err(Error::Options(_))));
    }
}
