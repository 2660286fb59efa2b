//! Reads of the dumped kernel's memory, by virtual or physical address, after the walk.
//!
//! The walk marked frames at which decoding can begin. To read a page, [`Memory`] decodes from the
//! last mark before it, and caches the frame, or what is near the page in a large frame. A dump of
//! one frame has one mark: if it fits within the limit, all of it is cached, otherwise it is decoded
//! from its beginning for each page. That is fast enough for the few pages of kernel variables, which
//! are at low addresses; [`Memory::is_random`] returns whether it is fast enough for more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use livecore_compress::{Codec, Sparse};
use livecore_defs::{PhysAddr, VirtAddr, amd64, mips, powerpc64};

use crate::avail::Avail;
use crate::bits::Bits;
use crate::codec::{Mark, Walked, replay};
use crate::container::Layout;
use crate::entry::{self, Entry};
use crate::finding::{Location, Region};
use crate::hashed;
use crate::header::MinidumpHeader;
use crate::input::Input;
use crate::intake::Intake;
use crate::radix;
use crate::symbols::DumpedMemory;

/// Number of pages to cache before and after an address, if its frame is too large.
const NEAR: u64 = 64;

/// Maximum size of a buffer that is used again.
const BUFFER_MAX: usize = 4 << 20;

/// Why an address could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// No entry maps the address.
    NotMapped,
    /// The page is not in the dump.
    Hole(u64),
    /// The page should be in the dump, but is after its end or damaged.
    Lost(u64),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotMapped => f.write_str("an unmapped address"),
            Self::Hole(pa) => write!(f, "page {pa:#x}, which is not in the dump"),
            Self::Lost(pa) => write!(f, "page {pa:#x}, which is lost"),
        }
    }
}

/// The dumped kernel's memory.
pub(crate) struct Memory<'a> {
    input: &'a Input,
    codec: Codec,
    end: u64,
    marks: &'a [Mark],
    pub(crate) header: &'a MinidumpHeader,
    pub(crate) avail: &'a Avail,
    bits: &'a Bits,
    pieces: Mutex<Pieces>,
    content_len: u64,
    /// Offset of the minidump in the payload, a multiple of the page size.
    base: u64,
    /// Maximum size of content to cache, or to decode for one page.
    limit: u64,
    /// Whether the one frame of the dump is cached.
    keep_all: bool,
}

/// Decoded content.
#[derive(Default)]
struct Pieces {
    /// By the offset of their first byte.
    pieces: BTreeMap<u64, Piece>,
    /// The offsets of the pieces, in the order in which they are considered for eviction.
    order: VecDeque<u64>,
    /// Memory of all pieces, in bytes.
    bytes: u64,
    /// A buffer for the next piece.
    buffer: Vec<u8>,
}

struct Piece {
    /// Content offset after it.
    end: u64,
    /// Empty if the frame is damaged.
    bytes: Bytes,
    /// Whether it was used since it was decoded or last considered for eviction.
    used: bool,
}

/// The bytes of a piece.
enum Bytes {
    Whole(Vec<u8>),
    /// Most of them are zeros.
    Sparse(Sparse),
}

impl Bytes {
    /// Memory used, in bytes.
    fn size(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Sparse(sparse) => sparse.size() as u64,
        }
    }
}

impl Pieces {
    /// Copies content at `offset` to `buf`, as far as one piece contains it. Returns its length, 0
    /// from a damaged frame; `None` if no piece contains it.
    fn copy(&mut self, offset: u64, buf: &mut [u8]) -> Option<usize> {
        let (start, piece) = self.pieces.range_mut(..=offset).next_back()?;
        if offset >= piece.end {
            return None;
        }
        piece.used = true;
        let inside = usize::try_from(offset - start).ok()?;
        Some(match &piece.bytes {
            Bytes::Whole(bytes) => {
                let from = bytes.get(inside..).unwrap_or_default();
                let n = from.len().min(buf.len());
                buf[..n].copy_from_slice(&from[..n]);
                n
            }
            Bytes::Sparse(sparse) => sparse.copy(inside, buf),
        })
    }

    /// Keeps a buffer for the next piece.
    fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= BUFFER_MAX {
            self.buffer = buffer;
        }
    }

    /// Adds a piece, and evicts others above `limit` bytes: those that were not used a second time.
    fn insert(&mut self, range: Range<u64>, bytes: Vec<u8>, limit: u64) {
        let bytes = match Sparse::new(&bytes) {
            Some(sparse) => {
                self.keep(bytes);
                Bytes::Sparse(sparse)
            }
            None => Bytes::Whole(bytes),
        };
        self.bytes += bytes.size();
        let start = range.start;
        let piece = Piece {
            end: range.end,
            bytes,
            used: false,
        };
        match self.pieces.insert(start, piece) {
            Some(old) => self.bytes -= old.bytes.size(),
            None => self.order.push_back(start),
        }
        while self.bytes > limit && self.order.len() > 1 {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            match self.pieces.get_mut(&oldest) {
                Some(piece) if oldest == start || piece.used => {
                    piece.used = false;
                    self.order.push_back(oldest);
                }
                _ => {
                    if let Some(old) = self.pieces.remove(&oldest) {
                        self.bytes -= old.bytes.size();
                        if let Bytes::Whole(bytes) = old.bytes {
                            self.keep(bytes);
                        }
                    }
                }
            }
        }
    }
}

impl<'a> Memory<'a> {
    /// The memory of a dump; `None` unless its sections were read.
    pub(crate) fn new(
        input: &'a Input,
        layout: &Layout,
        walked: &'a Walked,
        intake: &'a Intake,
        memory: u64,
    ) -> Option<Self> {
        let (header, base) = (intake.header()?, intake.base());
        if base % header.page != 0 {
            return None;
        }
        let one = layout.codec != Codec::None && walked.marks.len() == 1;
        Some(Self {
            content_len: walked.content_len,
            limit: memory / 4,
            keep_all: one && walked.content_len <= memory / 4,
            input,
            codec: layout.codec,
            end: walked.end,
            marks: &walked.marks,
            header,
            base,
            avail: intake.avail()?,
            bits: intake.bits()?,
            pieces: Mutex::default(),
        })
    }

    /// Whether any page can be read in reasonable time.
    pub(crate) fn is_random(&self) -> bool {
        let far = self.content_len / (self.marks.len() as u64).max(1);
        self.codec == Codec::None || self.keep_all || far <= self.limit
    }

    /// Offset in the minidump of the page that contains `pa`.
    fn page_offset(&self, pa: u64) -> Result<u64, Unreadable> {
        let rank = self.avail.bit(pa).and_then(|bit| self.bits.rank(bit));
        rank.ok_or(Unreadable::Hole(pa))?
            .checked_mul(self.header.page)
            .and_then(|o| o.checked_add(self.header.data()))
            .ok_or(Unreadable::Lost(pa))
    }

    /// Whether the bitmap lacks the page at `va`; `None` if the address is not mapped, or not to a
    /// page of dump_avail.
    pub(crate) fn lacks(&self, va: u64) -> Option<bool> {
        let bit = self.avail.bit(self.translate(va).ok()?)?;
        Some(!self.bits.contains(bit))
    }

    /// The location of `va`, in `region`; without an offset if the dump does not contain it.
    pub(crate) fn place<'n>(&self, region: Region<'n>, va: u64) -> Location<'n> {
        let found = self.translate(va).and_then(|pa| self.page_offset(pa));
        match found {
            Ok(page) => Location::payload(region, page.saturating_add(va % self.header.page)),
            Err(_) => Location::dump(region),
        }
    }

    /// Fills `buf` from physical address `pa`, within one page.
    fn read_phys(&self, pa: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let offset = self.page_offset(pa)?;
        let at = offset.checked_add(pa % self.header.page);
        let read = at.and_then(|at| self.payload_bytes(at, buf));
        read.ok_or(Unreadable::Lost(pa))
    }

    /// Fills `buf` from `offset` of the minidump.
    pub(crate) fn payload_bytes(&self, offset: u64, buf: &mut [u8]) -> Option<()> {
        let mut at = offset.checked_add(self.base)?;
        let mut rest = buf;
        if self.codec == Codec::None {
            let mark = self.marks.first()?;
            let from = mark.stored.checked_add(at)?;
            let left = self.end.saturating_sub(from);
            let bytes = self.input.up_to(from, rest.len()).ok()?;
            rest.copy_from_slice(bytes.get(..rest.len())?);
            return (rest.len() as u64 <= left).then_some(());
        }
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        while !rest.is_empty() {
            let n = match pieces.copy(at, rest) {
                Some(n) => n,
                None => {
                    self.decode(at, &mut pieces)?;
                    pieces.copy(at, rest)?
                }
            };
            if n == 0 {
                return None;
            }
            at = at.checked_add(n as u64)?;
            rest = &mut rest[n..];
        }
        Some(())
    }

    /// Decodes the frame that contains content offset `offset`, or what is near the offset in a large
    /// frame.
    fn decode(&self, offset: u64, pieces: &mut Pieces) -> Option<()> {
        let after = self.marks.partition_point(|m| m.content <= offset);
        let mark = *self.marks.get(after.checked_sub(1)?)?;
        let next = self
            .marks
            .get(after)
            .map_or(self.content_len, |m| m.content);
        let whole = next.saturating_sub(mark.content) <= self.limit / 4;
        let near = NEAR * self.header.page;
        let part = match whole || self.keep_all {
            true => mark.content..next,
            false => offset.saturating_sub(near).max(mark.content)..offset.saturating_add(near),
        };
        let mut at = mark.content;
        let mut bytes = std::mem::take(&mut pieces.buffer);
        bytes.clear();
        // The walk has decoded these bytes, and they are within the memory limit.
        let len = usize::try_from(part.end.saturating_sub(part.start)).ok()?;
        bytes.try_reserve_exact(len).ok()?;
        let result = replay(self.input, self.codec, mark, self.end, &mut |piece| {
            let skipped = part.start.saturating_sub(at).min(piece.len() as u64);
            let taken = part.end.saturating_sub(at).min(piece.len() as u64);
            // Both are at most the length of the piece.
            bytes.extend_from_slice(&piece[skipped as usize..taken as usize]);
            at += piece.len() as u64;
            at < part.end
        });
        if result.is_err() {
            bytes.clear();
        }
        // A frame that is small is decoded once for all its pages, also if it is damaged.
        pieces.insert(part, bytes, self.limit * 2);
        Some(())
    }

    /// Entry `index` of the page-table section, with entries of `size` bytes: 4 or 8.
    fn entry(&self, index: u64, size: usize) -> Option<u64> {
        let at = index.checked_mul(size as u64)?;
        if at >= self.header.pmapsize {
            return None;
        }
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..size.min(8)];
        self.payload_bytes(self.header.sections()[4].start + at, bytes)?;
        Some(entry::number(self.header, bytes))
    }

    /// The physical address of `va`.
    pub(crate) fn translate(&self, va: u64) -> Result<u64, Unreadable> {
        let header = self.header;
        let (page, base) = (header.page, header.kernbase);
        let direct = (header.dmapbase..header.dmapend).contains(&va);
        if header.has_direct_map() && direct && (va < base || !header.is_amd64()) {
            let found = (va - header.dmapbase).checked_add(header.dmapphys);
            return found.ok_or(Unreadable::NotMapped);
        }
        match header.architecture() {
            "powerpc64" => return self.translate_powerpc64(va),
            "mips" => {
                if let Some(pa) = unmapped(header, va) {
                    return Ok(pa);
                }
            }
            _ => {}
        }
        let offset = va.checked_sub(base).ok_or(Unreadable::NotMapped)?;
        let size = entry::size(header).ok_or(Unreadable::NotMapped)?;
        let found = self.entry(offset / entry::span(header), size).unwrap_or(0);
        match entry::parse(header, found, va) {
            Entry::Leaf { pa, len } => Ok(pa + va % len),
            Entry::Table { pa } => {
                let index = va / page % amd64::NPTEPG;
                let mut bytes = [0; amd64::PTE_SIZE];
                self.read_phys(pa + index * amd64::PTE_SIZE as u64, &mut bytes)?;
                let entry = u64::from_le_bytes(bytes);
                match entry & amd64::PG_V {
                    0 => Err(Unreadable::NotMapped),
                    _ => Ok((entry & amd64::PG_FRAME) + va % page),
                }
            }
            Entry::Absent | Entry::Invalid(_) => Err(Unreadable::NotMapped),
        }
    }

    /// The physical address of `va` on powerpc64. Addresses below the direct map are link-time
    /// addresses of the kernel.
    fn translate_powerpc64(&self, va: u64) -> Result<u64, Unreadable> {
        let header = self.header;
        let va = match va < header.dmapbase {
            true => va.wrapping_add(self.displacement()),
            false => va,
        };
        if (header.dmapbase..=header.dmapend).contains(&va) {
            return Ok(va & !header.dmapbase);
        }
        let start = header.sections()[4].start;
        if header.radix && va >= header.kernbase {
            let root = |at: u64, bytes: &mut [u8]| {
                let inside = at < header.pmapsize;
                let read = inside.then(|| self.payload_bytes(start + at, bytes));
                read.flatten().ok_or(Unreadable::NotMapped)
            };
            let found = radix::translate(va, root, |pa, bytes| self.read_phys(pa, bytes))?;
            return found.ok_or(Unreadable::NotMapped);
        }
        if header.radix || !(header.kernbase..=header.kernend).contains(&va) {
            return Err(Unreadable::NotMapped);
        }
        let read = |at: u64, bytes: &mut [u8]| self.payload_bytes(start + at, bytes);
        let frame = hashed::translate(header, va, read).ok_or(Unreadable::NotMapped)?;
        Ok(frame + va % header.page)
    }

    /// The kernel's load address minus its link-time address; 0 except on powerpc64.
    pub(crate) fn displacement(&self) -> u64 {
        match self.header.is_powerpc64() {
            true => self.header.startkernel.wrapping_sub(powerpc64::KERNBASE.0),
            false => 0,
        }
    }

    /// Fills `buf` from virtual address `va`.
    pub(crate) fn read(&self, va: u64, buf: &mut [u8]) -> Result<(), Unreadable> {
        let page = self.header.page;
        let (mut at, mut rest) = (va, buf);
        while !rest.is_empty() {
            let left = usize::try_from(page - at % page).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
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

/// The physical address of `va` in an unmapped segment of mips: xkphys, kseg0 or kseg1.
fn unmapped(header: &MinidumpHeader, va: u64) -> Option<u64> {
    let wide = header.is_wide_mips();
    if wide && (mips::XKPHYS_START..=mips::XKPHYS_END).contains(&VirtAddr(va)) {
        return Some(va & mips::XKPHYS_PHYS_MASK);
    }
    let sign = if wide { mips::KSEG_SIGN } else { 0 };
    (sign + mips::KSEG0_START.0..sign + mips::KSEG1_END.0)
        .contains(&va)
        .then_some(va & mips::KSEG_PHYS_MASK)
}

impl DumpedMemory for Memory<'_> {
    fn page_size(&self) -> u64 {
        self.header.page
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), PhysAddr> {
        let page = self.header.page;
        let (mut pa, mut rest) = (at.0, buf);
        while !rest.is_empty() {
            let left = usize::try_from(page - pa % page).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(left.min(rest.len()));
            Memory::read_phys(self, pa, now).map_err(|_| PhysAddr(pa))?;
            pa = pa.checked_add(now.len() as u64).ok_or(at)?;
            rest = later;
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Option<PhysAddr> {
        Memory::translate(self, at.0).ok().map(PhysAddr)
    }

    fn sample(&self, range: Range<PhysAddr>, count: u64) -> Vec<PhysAddr> {
        let len = range.end.0.saturating_sub(range.start.0);
        let (from, to) = self.avail.bits_of(range.start.0, len);
        let step = (to.saturating_sub(from) / count.max(1)).max(1);
        let starts = (from..to).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        let found = starts.filter_map(|bit| {
            let bit = self
                .bits
                .next(bit)
                .filter(|found| *found < bit.saturating_add(step))?;
            self.avail.address(bit).map(PhysAddr)
        });
        found
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .collect()
    }

    fn displacement(&self) -> u64 {
        Memory::displacement(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_was_used_again_stays() {
        let mut pieces = Pieces::default();
        let mut byte = [0];
        pieces.insert(0..100, vec![1; 100], 300);
        assert_eq!(pieces.copy(50, &mut byte), Some(1));
        for start in [100, 200, 300, 400, 500] {
            pieces.insert(start..start + 100, vec![2; 100], 300);
            assert_eq!(pieces.copy(99, &mut byte), Some(1), "{start}");
            assert!(pieces.bytes <= 300);
        }
        assert_eq!(pieces.copy(150, &mut byte), None, "evicted");
        assert_eq!(pieces.copy(599, &mut byte), Some(1), "the last");
        assert_eq!(pieces.copy(600, &mut byte), None, "after all");
    }

    #[test]
    fn zeros_use_little_of_the_limit() {
        let mut pieces = Pieces::default();
        let (len, mut bytes) = (1 << 16, [0; 3]);
        for number in 0..40 {
            let mut content = std::mem::take(&mut pieces.buffer);
            content.clear();
            content.resize(len as usize, 0);
            content[5000] = 1 + number as u8;
            pieces.insert(number * len..(number + 1) * len, content, 2 * len);
        }
        for number in 0..40 {
            assert_eq!(pieces.copy(number * len + 4999, &mut bytes), Some(3));
            assert_eq!(bytes, [0, 1 + number as u8, 0]);
        }
        assert!(pieces.bytes < 2 * len && pieces.pieces.len() == 40);
    }

    #[test]
    fn a_damaged_frame_is_decoded_once() {
        let mut pieces = Pieces::default();
        pieces.insert(0..100, Vec::new(), 300);
        assert_eq!(pieces.copy(0, &mut [0]), Some(0));
        assert_eq!(pieces.copy(99, &mut [0]), Some(0));
        assert_eq!(pieces.copy(100, &mut [0]), None);
    }
}
