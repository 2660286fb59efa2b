//! Where the sections of a minidump are.

use crate::MinidumpHeader;

/// The sections of a minidump in the order in which they lie: header, message buffer,
/// `dump_avail`, bitmap, page tables, pages.
///
/// The header comes first because it sizes all others; the pages come last because their number
/// follows from the bitmap. All offsets are in the payload.
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
    /// The layout of a dump with this header that holds `pages` pages.
    ///
    /// Cannot overflow: four lengths below 2^32 and at most 2^32 pages of at most 2^14 bytes.
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

    /// The same with a page-table section of exactly `len` bytes: 32-bit arm's, which a kernel
    /// writes without padding. At most 2^32 count.
    pub fn with_pmap_len(self, len: u64) -> Self {
        Self {
            pmap: len.min(1 << 32),
            ..self
        }
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Where the message buffer begins.
    pub fn msgbuf_offset(&self) -> u64 {
        self.page_size
    }

    /// Bytes of the message buffer's section.
    pub fn msgbuf_len(&self) -> u64 {
        self.msgbuf
    }

    /// Where `dump_avail` begins.
    pub fn dump_avail_offset(&self) -> u64 {
        self.msgbuf_offset() + self.msgbuf
    }

    /// Bytes of `dump_avail`'s section; 0 in versions without it.
    pub fn dump_avail_len(&self) -> u64 {
        self.dump_avail
    }

    /// Where the bitmap begins.
    pub fn bitmap_offset(&self) -> u64 {
        self.dump_avail_offset() + self.dump_avail
    }

    /// Bytes of the bitmap's section.
    pub fn bitmap_len(&self) -> u64 {
        self.bitmap
    }

    /// Where the page tables begin.
    pub fn pmap_offset(&self) -> u64 {
        self.bitmap_offset() + self.bitmap
    }

    /// Bytes of the page tables' section.
    pub fn pmap_len(&self) -> u64 {
        self.pmap
    }

    /// Where the pages begin.
    pub fn data_offset(&self) -> u64 {
        self.pmap_offset() + self.pmap
    }

    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Where the page with `rank` set bits before its own begins; `None` if there are not as many.
    pub fn page_offset(&self, rank: u64) -> Option<u64> {
        (rank < self.pages).then(|| self.data_offset() + rank * self.page_size)
    }

    /// Bytes of the whole dump.
    pub fn end(&self) -> u64 {
        self.data_offset() + self.pages * self.page_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the format notes.
    #[test]
    fn offsets_are_those_of_the_worked_example() {
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
