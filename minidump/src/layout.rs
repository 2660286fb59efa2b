//! The offsets of the sections of a minidump.

use crate::MinidumpHeader;

/// The sections of a minidump in order: header, message buffer, `dump_avail`, bitmap, page tables,
/// pages.
///
/// All offsets are offsets in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    page_size: u64,
    msgbuf: u64,
    dump_avail: u64,
    bitmap: u64,
    pmap: u64,
    pages: u64,
}

impl Layout {
    /// Returns the layout of a dump with this header and `pages` pages.
    ///
    /// This cannot overflow: the four lengths are below 2^32, and there are at most 2^32 pages of at
    /// most 2^14 bytes.
    pub fn new(header: &MinidumpHeader, pages: u64) -> Self {
        let page_size = header.page_size();
        let round = |len: u32| u64::from(len).next_multiple_of(page_size);
        Self {
            page_size,
            msgbuf: round(header.msgbufsize),
            dump_avail: if header.has_dump_avail() {
                round(header.dumpavailsize)
            } else {
                0
            },
            bitmap: round(header.bitmapsize),
            pmap: round(header.pmapsize),
            pages: pages.min(u32::MAX.into()),
        }
    }

    /// Sets the length of the page-table section to `len` bytes, at most 2^32. This is for 32-bit arm,
    /// whose kernels do not pad the section.
    pub fn with_pmap_len(self, len: u64) -> Self {
        Self {
            pmap: len.min(1 << 32),
            ..self
        }
    }

    /// The page size in bytes.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The offset of the message buffer.
    pub fn msgbuf_offset(&self) -> u64 {
        self.page_size
    }

    /// The length of the message buffer's section.
    pub fn msgbuf_len(&self) -> u64 {
        self.msgbuf
    }

    /// The offset of `dump_avail`.
    pub fn dump_avail_offset(&self) -> u64 {
        self.msgbuf_offset() + self.msgbuf
    }

    /// The length of the section of `dump_avail`; 0 in versions without it.
    pub fn dump_avail_len(&self) -> u64 {
        self.dump_avail
    }

    /// The offset of the bitmap.
    pub fn bitmap_offset(&self) -> u64 {
        self.dump_avail_offset() + self.dump_avail
    }

    /// The length of the bitmap's section.
    pub fn bitmap_len(&self) -> u64 {
        self.bitmap
    }

    /// The offset of the page tables.
    pub fn pmap_offset(&self) -> u64 {
        self.bitmap_offset() + self.bitmap
    }

    /// The length of the page tables' section.
    pub fn pmap_len(&self) -> u64 {
        self.pmap
    }

    /// The offset of the pages.
    pub fn data_offset(&self) -> u64 {
        self.pmap_offset() + self.pmap
    }

    /// The number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The offset of the page with `rank` set bits before its own; `None` if there is no such page.
    pub fn page_offset(&self, rank: u64) -> Option<u64> {
        (rank < self.pages).then(|| self.data_offset() + rank * self.page_size)
    }

    /// The length of the payload.
    pub fn end(&self) -> u64 {
        self.data_offset() + self.pages * self.page_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the format documentation.
    #[test]
    fn offsets_are_those_of_the_documented_example() {
        let header = MinidumpHeader {
            version: 3,
            msgbufsize: 98232,
            bitmapsize: 0x20000,
            pmapsize: 0x7f_f000,
            dumpavailsize: 0x1000,
            ..MinidumpHeader::default()
        };
        let layout = Layout::new(&header, 10);
        assert_eq!(layout.msgbuf_offset(), 0x1000);
        assert_eq!(layout.dump_avail_offset(), 0x19000);
        assert_eq!(layout.bitmap_offset(), 0x1a000);
        assert_eq!(layout.pmap_offset(), 0x3a000);
        assert_eq!(layout.data_offset(), 0x83_9000);
        assert_eq!(layout.page_offset(9), Some(0x84_2000));
        assert_eq!(layout.page_offset(10), None);
        assert_eq!(layout.end(), 0x84_3000);
    }

    #[test]
    fn lengths_near_their_limits_do_not_overflow() {
        let header = MinidumpHeader {
            version: 3,
            msgbufsize: u32::MAX,
            bitmapsize: u32::MAX,
            pmapsize: u32::MAX,
            dumpavailsize: u32::MAX,
            ..MinidumpHeader::default()
        };
        let layout = Layout::new(&header, u64::MAX);
        assert_eq!(layout.data_offset(), 0x1000 + 4 * (1 << 32));
        assert_eq!(layout.end(), layout.data_offset() + 0xffff_ffff * 4096);
    }
}
