//! Any address of the dumped kernel, looked up again in the decompressed payload.
//!
//! The walk has left marks: frames at which decoding can begin. A page is had by decoding from the
//! last mark in front of it; what is decoded on the way is kept, up to a limit. A dump of one
//! frame has one mark: if it fits into the limit all of it is kept, else it is decoded from its
//! beginning each time. That will do for the few pages of a kernel's own variables, which lie low
//! in memory; [`Memory::is_random`] says whether it will do for more.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use compress::Codec;
use minidump::defs::{amd64, arm64, i386, riscv};
use minidump::{KernelMemory, PhysAddr, ReadError, VirtAddr};

use crate::avail::Avail;
use crate::bits::Bits;
use crate::codec::{Mark, Walked, replay};
use crate::container::Layout;
use crate::input::Input;
use crate::intake::Intake;
use crate::sections::Header;

/// Pages kept.
const CACHE: usize = 4096;
/// Pages in front of and behind a wanted one that are kept when they come by.
const NEAR: u64 = 64;

/// Why an address could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// No entry maps it.
    NotMapped,
    /// Its page is not in the dump.
    Hole(u64),
    /// Its page should be there, and is behind the end or damaged.
    Lost(u64),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotMapped => f.write_str("an address that is not mapped"),
            Self::Hole(pa) => write!(f, "page {pa:#x}, which is not in the dump"),
            Self::Lost(pa) => write!(f, "page {pa:#x}, which is lost"),
        }
    }
}

/// The kernel's memory as the dump has it.
pub(crate) struct Memory<'a> {
    input: &'a Input,
    codec: Codec,
    end: u64,
    marks: &'a [Mark],
    pub(crate) header: &'a Header,
    pub(crate) avail: &'a Avail,
    bits: &'a Bits,
    pages: Mutex<BTreeMap<u64, Vec<u8>>>,
    content_len: u64,
    /// Most bytes of content that may be kept, or decoded for one page.
    limit: u64,
    /// Whether everything that is decoded is kept.
    keep_all: bool,
}

impl<'a> Memory<'a> {
    /// The memory of a dump whose sections were seen; `None` if they were not.
    pub(crate) fn new(
        input: &'a Input,
        layout: &Layout,
        walked: &'a Walked,
        intake: &'a Intake,
        memory: u64,
    ) -> Option<Self> {
        let one = layout.codec != Codec::None && walked.marks.len() == 1;
        Some(Self {
            content_len: walked.content_len,
            limit: memory / 4,
            keep_all: one && walked.content_len <= memory / 4,
            input,
            codec: layout.codec,
            end: walked.end,
            marks: &walked.marks,
            header: intake.header()?,
            avail: intake.avail()?,
            bits: intake.bits()?,
            pages: Mutex::default(),
        })
    }

    /// Whether pages anywhere can be read in reasonable time.
    pub(crate) fn is_random(&self) -> bool {
        let far = self.content_len / (self.marks.len() as u64).max(1);
        self.codec == Codec::None || self.keep_all || far <= self.limit
    }

    /// The page of the payload at `offset`, a multiple of the page size; what is there of it.
    fn payload_page(&self, offset: u64) -> Option<Vec<u8>> {
        let mut cache = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = cache.get(&offset) {
            return Some(page.clone());
        }
        let after = self.marks.partition_point(|m| m.content <= offset);
        let mark = *self.marks.get(after.checked_sub(1)?)?;
        let size = self.header.page;
        if self.codec == Codec::None {
            let page = self
                .input
                .up_to(mark.stored.checked_add(offset)?, size as usize);
            let left = usize::try_from(self.end.saturating_sub(mark.stored + offset));
            let mut page = page.ok()?;
            page.truncate(left.unwrap_or(usize::MAX));
            return Some(page);
        }
        if cache.len() > CACHE && !self.keep_all {
            cache.clear();
        }
        let (keep_from, keep_to) = match self.keep_all {
            true => (0, u64::MAX),
            false => (
                offset.saturating_sub(NEAR * size),
                offset.saturating_add(NEAR * size),
            ),
        };
        let mut at = mark.content;
        let mut page = Vec::new();
        let mut skip = at.next_multiple_of(size) - at;
        let result = replay(self.input, self.codec, mark, self.end, &mut |mut bytes| {
            while !bytes.is_empty() {
                let wanted = if skip > 0 {
                    skip
                } else {
                    size - page.len() as u64
                };
                let n = bytes
                    .len()
                    .min(usize::try_from(wanted).unwrap_or(usize::MAX));
                let (now, later) = bytes.split_at(n);
                bytes = later;
                at += n as u64;
                if skip > 0 {
                    skip -= n as u64;
                    continue;
                }
                page.extend_from_slice(now);
                if page.len() as u64 == size {
                    let start = at - size;
                    let full = std::mem::take(&mut page);
                    if (keep_from..keep_to).contains(&start) {
                        cache.insert(start, full);
                    }
                }
            }
            at < keep_to
        });
        // The replay may have stopped in the middle of a page; only the content's end is one.
        if !page.is_empty() && at >= self.content_len {
            cache.insert(at - page.len() as u64, page);
        }
        result.ok()?;
        cache.get(&offset).cloned()
    }

    /// Where the page of `pa` begins in the payload.
    fn page_offset(&self, pa: u64) -> Result<u64, Unreadable> {
        let rank = self.avail.bit(pa).and_then(|bit| self.bits.rank(bit));
        rank.ok_or(Unreadable::Hole(pa))?
            .checked_mul(self.header.page)
            .and_then(|o| o.checked_add(self.header.data()))
            .ok_or(Unreadable::Lost(pa))
    }

    /// Where the byte at `va` is in the payload; 0 if it is not there.
    pub(crate) fn payload_offset(&self, va: u64) -> u64 {
        let found = self.translate(va).and_then(|pa| self.page_offset(pa));
        found.map_or(0, |page| page.saturating_add(va % self.header.page))
    }

    /// Fills `buf` from physical address `pa`; it must not cross a page.
    fn read_phys(&self, pa: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let page = self.header.page;
        let lost = Unreadable::Lost(pa);
        let offset = self.page_offset(pa)?;
        let bytes = self.payload_page(offset).ok_or(lost.clone())?;
        let from = (pa % page) as usize;
        let bytes = bytes.get(from..from + buf.len()).ok_or(lost)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    /// Entry `index` of the page-table section, whose entries have `size` bytes: 4 or 8.
    fn entry(&self, index: u64, size: usize) -> Option<u64> {
        let at = index.checked_mul(size as u64)?;
        if at >= self.header.pmapsize {
            return None;
        }
        let page = self.header.page;
        let start = self.header.sections()[4].start;
        let bytes = self.payload_page(start + at / page * page)?;
        let from = (at % page) as usize;
        let bytes = bytes.get(from..from + size)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// The physical address behind `va`.
    pub(crate) fn translate(&self, va: u64) -> Result<u64, Unreadable> {
        let header = self.header;
        let (page, base) = (header.page, header.kernbase);
        let direct = (header.dmapbase..header.dmapend).contains(&va);
        let in_page = va % page;
        match header.architecture() {
            "amd64" if va >= base && header.version == 1 => {
                let entry = self.entry((va - base) / page, 8).unwrap_or(0);
                leaf(entry & amd64::PG_V != 0, entry & amd64::PG_FRAME, in_page)
            }
            "amd64" if va >= base => {
                let entry = self.entry((va - base) / amd64::NBPDR, 8).unwrap_or(0);
                if entry & amd64::PG_V == 0 {
                    return Err(Unreadable::NotMapped);
                }
                if entry & amd64::PG_PS != 0 {
                    return Ok((entry & amd64::PG_PS_FRAME) + va % amd64::NBPDR);
                }
                let index = va / page % amd64::NPTEPG;
                let mut bytes = [0; amd64::PTE_SIZE];
                self.read_phys((entry & amd64::PG_FRAME) + index * 8, &mut bytes)?;
                let entry = u64::from_le_bytes(bytes);
                leaf(entry & amd64::PG_V != 0, entry & amd64::PG_FRAME, in_page)
            }
            "amd64" if direct => Ok(va - header.dmapbase),
            "arm64" | "riscv" if direct => Ok(va - header.dmapbase + header.dmapphys),
            "arm64" if va >= base => {
                let entry = self.entry((va - base) / page, 8).unwrap_or(0);
                let valid = entry & arm64::ATTR_DESCR_MASK == arm64::L3_PAGE;
                leaf(valid, entry & arm64::ATTR_FRAME, in_page)
            }
            "riscv" if va >= base => {
                let entry = self.entry((va - base) / page, 8).unwrap_or(0);
                let frame = (entry & riscv::PTE_PPN_MASK) >> riscv::PTE_PPN0_S;
                let valid = entry & riscv::PTE_V != 0 && entry & riscv::PTE_RWX != 0;
                leaf(valid, frame << riscv::L3_SHIFT, in_page)
            }
            "i386" if va >= base => {
                let (size, frame) = match header.pae {
                    true => (i386::PTE_SIZE_PAE, i386::PG_FRAME_PAE),
                    false => (i386::PTE_SIZE, i386::PG_FRAME),
                };
                let entry = self.entry((va - base) / page, size).unwrap_or(0);
                leaf(entry & i386::PG_V != 0, entry & frame, in_page)
            }
            _ => Err(Unreadable::NotMapped),
        }
    }

    /// Fills `buf` from virtual address `va`.
    pub(crate) fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let page = self.header.page;
        let (mut at, mut rest) = (va, buf);
        while !rest.is_empty() {
            let room = usize::try_from(page - at % page).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            self.read_phys(self.translate(at)?, now)?;
            at = at
                .checked_add(now.len() as u64)
                .ok_or(Unreadable::NotMapped)?;
            rest = later;
        }
        Ok(())
    }

    /// The number of `len` bytes, at most 8, at `va`, in the dump's byte order.
    pub(crate) fn number(&self, va: u64, len: usize) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..len.min(8)];
        self.read(va, bytes)?;
        if !self.header.big {
            bytes.reverse();
        }
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
}

fn leaf(valid: bool, frame: u64, in_page: u64) -> Result<u64, Unreadable> {
    match valid {
        true => Ok(frame + in_page),
        false => Err(Unreadable::NotMapped),
    }
}

impl KernelMemory for Memory<'_> {
    fn page_size(&self) -> u64 {
        self.header.page
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let page = self.header.page;
        let (mut pa, mut rest) = (at.0, buf);
        while !rest.is_empty() {
            let room = usize::try_from(page - pa % page).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            Memory::read_phys(self, pa, now).map_err(|_| ReadError::Hole { at: PhysAddr(pa) })?;
            pa = pa
                .checked_add(now.len() as u64)
                .ok_or(ReadError::Hole { at })?;
            rest = later;
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        let found = Memory::translate(self, at.0);
        found.map(PhysAddr).map_err(|_| ReadError::NotMapped {
            at,
            why: "no entry maps it",
        })
    }
}
