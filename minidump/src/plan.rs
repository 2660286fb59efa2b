//! A minidump that is about to be written: everything but its pages.

use std::collections::BTreeMap;

use crate::bitmap_section::WordForm;
use crate::{Bitmap, DumpAvail, Error, Layout, MinidumpHeader};

/// The page-table section, page by page. A page that is not there is zero: of the 2047 pages of an
/// amd64 dump all but a few are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PmapPages {
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl PmapPages {
    /// No page yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets page `index`. A page of zeros is as good as none, and not kept.
    pub fn insert(&mut self, index: u64, page: Box<[u8]>) {
        if page.iter().all(|b| *b == 0) {
            self.pages.remove(&index);
        } else {
            self.pages.insert(index, page);
        }
    }

    /// Page `index`, unless it is zero.
    pub fn get(&self, index: u64) -> Option<&[u8]> {
        self.pages.get(&index).map(AsRef::as_ref)
    }

    /// The pages that are not zero, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> + '_ {
        self.pages.iter().map(|(index, page)| (*index, &**page))
    }

    /// Whether pages `first` up to and including `last` are all zero.
    pub fn is_zero(&self, first: u64, last: u64) -> bool {
        first > last || self.pages.range(first..=last).next().is_none()
    }
}

/// All sections of a minidump but the pages themselves, which are read when they are asked for.
///
/// The sizes in `header` are those of what the plan holds: [`Plan::new`] fills them in.
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
    /// A plan from its parts.
    ///
    /// * `header`: its sizes are overwritten, except `msgbufsize` if that is not 0, `pmapsize`
    ///   always stays.
    /// * `msgbuf`: the ring, and whatever stands behind it in the kernel's memory up to the page
    ///   boundary (`struct msgbuf`, in a crash dump). Shorter is padded with zeros.
    /// * `ranges`: [`DumpAvail::from_zero`] for a version that has no such section.
    /// * `bitmap`: over `ranges.bits()` bits.
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
                "this version and these dump_avail do not go together",
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
            return Err(options(
                "page-table page of another size or beyond pmapsize",
            ));
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

    /// Where the sections are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The ranges that the bitmap is over.
    pub fn dump_avail(&self) -> &DumpAvail {
        &self.ranges
    }

    /// Which pages are in the dump.
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
