//! How much of a payload's beginning a seal gets a second copy of: the sections that give every page
//! its address.

use livecore_compress::ReadAt;

use crate::elf::core::Head;
use crate::header::HEADER_BYTES;
use crate::{Error, Layout, MinidumpHeader};

/// Bytes that are copied at most: sections of a machine of 1.5 TiB.
const MOST: u64 = 64 << 20;

/// Sections of a minidump: all of them, or up to the page tables, or up to the bitmap.
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

/// The headers of a full dump whose memory begins at `start`.
pub(crate) fn of_headers(start: u64) -> u64 {
    match start <= MOST {
        true => start,
        false => 0,
    }
}

/// Of a payload whose kind its first bytes tell.
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
