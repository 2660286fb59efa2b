//! The length of the start of a payload that is duplicated in a seal: the sections that determine
//! the addresses of pages.

use livecore_compress::ReadAt;

use crate::elf::headers::Head;
use crate::header::HEADER_BYTES;
use crate::{Error, Layout, MinidumpHeader};

/// The maximum length, sufficient for the sections of a machine with 1.5 TiB of memory.
const MOST: u64 = 64 << 20;

/// Returns the length for a minidump: all sections before the pages, or those before the page
/// tables, or those before the bitmap.
pub(crate) fn of_layout(layout: &Layout) -> u64 {
    [
        layout.data_offset(),
        layout.pmap_offset(),
        layout.bitmap_offset(),
    ]
    .into_iter()
    .find(|end| *end <= MOST)
    .unwrap_or(0)
}

/// Returns the length for a full dump: its headers, if its memory starts at `start`.
pub(crate) fn of_headers(start: u64) -> u64 {
    match start <= MOST {
        true => start,
        false => 0,
    }
}

/// Returns the length for a payload of any kind.
pub(crate) fn of_payload(payload: &dyn ReadAt) -> Result<u64, Error> {
    let mut head = [0; HEADER_BYTES];
    let got = payload.read_full_at(&mut head, 0)?;
    if let Ok(header) = MinidumpHeader::parse(&head[..got]) {
        return Ok(of_layout(&Layout::new(&header, 0)));
    }
    let core = Head::parse(&head[..got]).filter(Head::is_core);
    Ok(core.map_or(0, |head| {
        let table = u64::from(head.phnum) * u64::from(head.phentsize);
        of_headers(head.phoff.saturating_add(table).next_multiple_of(4096))
    }))
}
