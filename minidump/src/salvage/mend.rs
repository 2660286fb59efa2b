//! The header and `dump_avail` of the new payload: what the old ones say, as a kernel writes it.

use livecore_compress::ReadAt;

use super::left::{Left, covered, good};
use super::options::Options;
use crate::{DumpAvail, Error, Layout, MinidumpHeader};

/// The sections that are written anew.
pub(super) struct Mend {
    /// The header.
    pub(super) header: MinidumpHeader,
    /// Its page.
    pub(super) page: Vec<u8>,
    /// The `dump_avail` section.
    pub(super) dump_avail: Vec<u8>,
    /// What is not as it was, in words.
    pub(super) fields: Vec<String>,
}

impl Mend {
    /// What becomes of the header `stated`, whose sections lie as `read` says, and of `ranges`.
    pub(super) fn new(
        stored: &Left,
        options: &Options,
        stated: &MinidumpHeader,
        read: &MinidumpHeader,
        ranges: &DumpAvail,
    ) -> Result<Self, Error> {
        let mut header = read.clone();
        let mut fields = Vec::new();
        let page_size = header.page_size();
        if let Some(size) = bitmap_size(&header, ranges) {
            header.bitmapsize = size;
        }
        if header.unpadded_entries().is_none()
            && let Some(size) = header.pmapsize.checked_next_multiple_of(page_size as u32)
        {
            header.pmapsize = size;
        }
        let mut dump_avail = Vec::new();
        if header.has_dump_avail() {
            // A page is far below 4 GiB, and below the end of an address space.
            match ranges.encode(header.order, page_size as usize) {
                Some(bytes) => {
                    header.dumpavailsize = page_size as u32;
                    dump_avail = bytes;
                }
                None => {
                    // More ranges than kernels have: as long as it is.
                    let len = u64::from(header.dumpavailsize).next_multiple_of(page_size);
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    dump_avail = ranges.encode(header.order, len).unwrap_or_default();
                }
            }
        }
        for (field, was, is) in [
            ("bitmapsize", stated.bitmapsize, header.bitmapsize),
            ("dumpavailsize", stated.dumpavailsize, header.dumpavailsize),
            ("pmapsize", stated.pmapsize, header.pmapsize),
        ] {
            if was != is {
                fields.push(format!("minidump header, {field}: {was:#x}, now {is:#x}"));
            }
        }
        let page = header.encode();
        let layout = Layout::new(read, 0);
        let pieces = good(stored, options);
        let changed = |offset: u64, new: &[u8]| -> Result<bool, Error> {
            let len = covered(&pieces, offset, new.len() as u64).0;
            // At most what is compared with it.
            let mut old = vec![0; len as usize];
            stored.content().read_exact_at(&mut old, offset)?;
            Ok(old != new[..old.len()])
        };
        if changed(0, &stated.encode())? {
            fields.push("minidump header: reserved bytes that were not zero".into());
        }
        if changed(layout.dump_avail_offset(), &dump_avail)? {
            fields.push("dump_avail: bytes behind its last entry that were not zero".into());
        }
        Ok(Self {
            header,
            page,
            dump_avail,
            fields,
        })
    }
}

/// The bitmap's size as the kernel makes it: whole words, rounded to a page. `None` if only the
/// header knows.
pub(super) fn bitmap_size(header: &MinidumpHeader, ranges: &DumpAvail) -> Option<u32> {
    let word = header.long_size() as u64;
    let len = ranges.bits().div_ceil(word * 8).checked_mul(word)?;
    let size = u32::try_from(len.checked_next_multiple_of(header.page_size())?).ok()?;
    ranges.is_known().then_some(size)
}
