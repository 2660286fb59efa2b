//! Plans of minidumps to write: all sections except the pages.

use std::collections::BTreeMap;

use crate::bitmap_section::WordForm;
use crate::{Bitmap, DumpAvail, Error, Layout, MinidumpHeader};

/// The pages of the page-table section. Zero pages are not stored: most of the 2047 pages of an amd64
/// dump are zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PmapPages {
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl PmapPages {
    /// Creates an empty section.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets page `index`. A page of zeros is not stored.
    pub fn insert(&mut self, index: u64, page: Box<[u8]>) {
        if page.iter().all(|b| *b == 0) {
            self.pages.remove(&index);
        } else {
            self.pages.insert(index, page);
        }
    }

    /// Returns page `index`, or `None` if it is zero.
    pub fn get(&self, index: u64) -> Option<&[u8]> {
        self.pages.get(&index).map(AsRef::as_ref)
    }

    /// Iterates over the pages that are not zero, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> + '_ {
        self.pages.iter().map(|(index, page)| (*index, &**page))
    }

    /// Whether pages `first` to `last`, inclusive, are zero.
    pub fn is_zero(&self, first: u64, last: u64) -> bool {
        first > last || self.pages.range(first..=last).next().is_none()
    }
}

/// All sections of a minidump except the pages, which are read when needed.
///
/// [`Plan::new`] sets the sizes in the header.
#[derive(Debug, Clone)]
pub struct Plan {
    header: MinidumpHeader,
    msgbuf: Vec<u8>,
    dump_avail: Vec<u8>,
    ranges: DumpAvail,
    bitmap: Bitmap,
    pmap: PmapPages,
    layout: Layout,
}

impl Plan {
    /// Creates a plan.
    ///
    /// * `header`: its sizes are set, except `pmapsize`, and `msgbufsize` if it is not 0.
    /// * `msgbuf`: the ring, and the kernel's memory after it up to the page boundary (which has
    ///   `struct msgbuf` in a crash dump). It is padded with zeros.
    /// * `ranges`: [`DumpAvail::from_zero`] for a version without the section.
    /// * `bitmap`: a bitmap of `ranges.bits()` bits.
    /// * `pmap`: pages below `pmapsize`.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the parts do not fit each other, or a section is too large for its field.
    pub fn new(
        mut header: MinidumpHeader,
        msgbuf: Vec<u8>,
        ranges: DumpAvail,
        bitmap: Bitmap,
        pmap: PmapPages,
    ) -> Result<Self, Error> {
        let page_size = header.page_size();
        let options = |what: &str| Error::Options(format!("cannot plan a minidump: {what}"));
        if header.msgbufsize == 0 {
            header.msgbufsize =
                u32::try_from(msgbuf.len()).map_err(|_| options("message buffer over 4 GiB"))?;
        }
        if msgbuf.len() as u64 > u64::from(header.msgbufsize).next_multiple_of(page_size) {
            return Err(options("message buffer longer than its section"));
        }
        if bitmap.bits() != ranges.bits() {
            return Err(options("bitmap and dump_avail differ in length"));
        }
        if ranges.is_known() != header.has_dump_avail() {
            return Err(options(
                "dump_avail does not match the version of the format",
            ));
        }
        let long_bits = header.long_size() as u64 * 8;
        let bitmap_len =
            (bitmap.bits().div_ceil(long_bits) * long_bits / 8).next_multiple_of(page_size);
        header.bitmapsize = u32::try_from(bitmap_len).map_err(|_| options("bitmap over 4 GiB"))?;
        let dump_avail = if header.has_dump_avail() {
            ranges
                .encode(header.order, page_size as usize)
                .ok_or_else(|| options("dump_avail longer than a page"))?
        } else {
            Vec::new()
        };
        header.dumpavailsize = dump_avail.len() as u32; // one page or none
        let pmap_pages = u64::from(header.pmapsize) / page_size;
        if pmap
            .iter()
            .any(|(index, page)| index >= pmap_pages || page.len() as u64 != page_size)
        {
            return Err(options("page-table page of wrong size or beyond pmapsize"));
        }
        let layout = Layout::new(&header, bitmap.count());
        Ok(Self {
            header,
            msgbuf,
            dump_avail,
            ranges,
            bitmap,
            pmap,
            layout,
        })
    }

    /// The header, with its sizes.
    pub fn header(&self) -> &MinidumpHeader {
        &self.header
    }

    /// The offsets of the sections.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The ranges of the bitmap.
    pub fn dump_avail(&self) -> &DumpAvail {
        &self.ranges
    }

    /// The set of pages in the dump.
    pub fn bitmap(&self) -> &Bitmap {
        &self.bitmap
    }

    /// The page-table section.
    pub fn pmap(&self) -> &PmapPages {
        &self.pmap
    }

    pub(crate) fn msgbuf(&self) -> &[u8] {
        &self.msgbuf
    }

    pub(crate) fn dump_avail_bytes(&self) -> &[u8] {
        &self.dump_avail
    }

    pub(crate) fn words(&self) -> WordForm {
        WordForm {
            order: self.header.order,
            long_size: self.header.long_size(),
        }
    }
}
