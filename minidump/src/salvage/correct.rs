//! Corrects the header and `dump_avail`: the new payload has them as a kernel writes them.

use livecore_compress::ReadAt;

use super::left::{Left, covered, good};
use super::options::Options;
use crate::{DumpAvail, Error, Layout, MinidumpHeader};

/// The corrected header and `dump_avail`.
pub(super) struct Corrected {
    /// The header.
    pub(super) header: MinidumpHeader,
    /// The encoded header page.
    pub(super) page: Vec<u8>,
    /// The `dump_avail` section.
    pub(super) dump_avail: Vec<u8>,
    /// The corrections, as text.
    pub(super) corrections: Vec<String>,
}

impl Corrected {
    /// Corrects the header `stated` and `ranges`. `read` is the header whose sizes match the
    /// sections.
    pub(super) fn new(
        stored: &Left,
        options: &Options,
        stated: &MinidumpHeader,
        read: &MinidumpHeader,
        ranges: &DumpAvail,
    ) -> Result<Self, Error> {
        let mut header = read.clone();
        let mut corrections = Vec::new();
        let page_size = header.page_size();
        if let Some(size) = header.needed_bitmap_size(ranges) {
            header.bitmapsize = size;
        }
        if header.unpadded_entries().is_none()
            && let Some(size) = header.pmapsize.checked_next_multiple_of(page_size as u32)
        {
            header.pmapsize = size;
        }
        let mut dump_avail = Vec::new();
        if header.has_dump_avail() {
            // A page is smaller than 4 GiB.
            match ranges.encode(header.order, page_size as usize) {
                Some(bytes) => {
                    header.dumpavailsize = page_size as u32;
                    dump_avail = bytes;
                }
                None => {
                    // More ranges than any kernel has: keep the size.
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
                corrections.push(format!("minidump header, {field}: {was:#x}, now {is:#x}"));
            }
        }
        let page = header.encode();
        let layout = Layout::new(read, 0);
        let pieces = good(stored, options);
        let changed = |offset: u64, new: &[u8]| -> Result<bool, Error> {
            let len = covered(&pieces, offset, new.len() as u64).0;
            // At most the size of `new`.
            let mut old = vec![0; len as usize];
            stored.content().read_exact_at(&mut old, offset)?;
            Ok(old != new[..old.len()])
        };
        if changed(0, &stated.encode())? {
            corrections.push("minidump header: nonzero reserved bytes, now zero".into());
        }
        if changed(layout.dump_avail_offset(), &dump_avail)? {
            corrections.push("dump_avail: nonzero bytes after the last entry, now zero".into());
        }
        Ok(Self {
            header,
            page,
            dump_avail,
            corrections,
        })
    }
}
