//! The machine's `vm_page_array`: one `struct vm_page` per frame of `vm_phys_segs`.

use std::ops::Range;

use super::content::{PAGE, Page};
use super::layout::VmPageLayout;
use super::rng::mix;

/// The part of an element of `vm_phys_segs` that the array depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Physical addresses.
    pub(crate) pages: Range<u64>,
    /// Index of its first `struct vm_page`.
    pub(crate) first: u64,
}

/// `VM_NFREEORDER` of amd64 and arm64.
const NFREEORDER: u8 = 13;

/// The contents of the array.
pub(crate) struct VmPages {
    /// Ascending.
    pub(crate) segments: Vec<Segment>,
    /// Offsets of the fields.
    pub(crate) layout: VmPageLayout,
    /// Physical ranges of pages with PG_NODUMP, ascending.
    pub(crate) nodump: Vec<Range<u64>>,
    /// Physical ranges of free pages, ascending. If there are none, `order` and `ref_count` are 0.
    pub(crate) free: Vec<Range<u64>>,
    /// Bytes per page of the machine.
    pub(crate) page_size: u64,
}

impl VmPages {
    /// Number of elements.
    pub(crate) fn len(&self) -> u64 {
        self.segments.last().map_or(0, |s| {
            s.first + (s.pages.end - s.pages.start) / self.page_size
        })
    }

    /// Makes page number `page` of the array, in units of 4 KiB.
    pub(crate) fn fill(&self, page: u64, seed: u64, out: &mut Page) {
        out.fill(0);
        let size = self.layout.size as u64;
        let start = page * PAGE as u64;
        let end = start + PAGE as u64;
        let mut index = start / size;
        let mut element = [0u8; 128];
        while index * size < end && index < self.len() {
            let element = &mut element[..size as usize];
            self.element(index, seed, element);
            let at = index * size;
            let from = start.max(at);
            let to = end.min(at + size);
            out[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&element[(from - at) as usize..(to - at) as usize]);
            index += 1;
        }
    }

    /// `order` of the free page at `pa`: the run consists of the largest aligned blocks, in order.
    fn order(&self, run: &Range<u64>, pa: u64) -> u8 {
        let (mut at, end) = (run.start / self.page_size, run.end / self.page_size);
        loop {
            let order = at.trailing_zeros().min((end - at).ilog2());
            let order = order.min(u32::from(NFREEORDER) - 1);
            match (pa / self.page_size).checked_sub(at) {
                Some(0) => return order as u8, // below NFREEORDER
                Some(skip) if skip >= 1 << order => at += 1 << order,
                _ => return NFREEORDER,
            }
        }
    }

    fn element(&self, index: u64, seed: u64, out: &mut [u8]) {
        out.fill(0);
        let i = self.segments.partition_point(|s| s.first <= index);
        let Some(segment) = i.checked_sub(1).map(|i| &self.segments[i]) else {
            return;
        };
        let pa = segment.pages.start + (index - segment.first) * self.page_size;
        let r = mix(seed ^ (index >> 4));
        // Queue links and the object: adjacent pages belong to one object.
        let object = 0xffff_f800_0000_0000 | (r & 0x3fff_ff00);
        out[..8].copy_from_slice(&(object | 0x40).to_le_bytes());
        out[16..24].copy_from_slice(&object.to_le_bytes());
        out[24..32].copy_from_slice(&(index & 0xfff).to_le_bytes());
        let at = self.layout.phys_addr as usize;
        out[at..at + 8].copy_from_slice(&pa.to_le_bytes());
        let nodump = self.nodump.partition_point(|range| range.end <= pa);
        let flags = match self.nodump.get(nodump) {
            Some(range) if range.start <= pa => self.layout.nodump,
            // Other flags of real pages, such as PG_ZERO and PG_SWAPINPROG, that a filter must not
            // confuse with PG_NODUMP.
            _ => (r >> 60) as u16 & self.layout.other_flags,
        };
        let at = self.layout.flags as usize;
        out[at..at + self.layout.flags_bytes as usize]
            .copy_from_slice(&flags.to_le_bytes()[..self.layout.flags_bytes as usize]);
        // The byte after the flags is another field, nonzero in every valid page.
        let behind = at + self.layout.flags_bytes as usize;
        if behind < out.len() {
            out[behind] = 0xff;
        }
        if let (Some((order, ref_count)), false) = (self.layout.allocation, self.free.is_empty()) {
            let free = self.free.partition_point(|range| range.end <= pa);
            let free = self.free.get(free).filter(|range| range.start <= pa);
            if free.is_some() {
                out[16..24].fill(0);
            }
            out[order as usize] = free.map_or(NFREEORDER, |range| self.order(range, pa));
            out[ref_count as usize] = u8::from(free.is_none());
        }
    }
}
