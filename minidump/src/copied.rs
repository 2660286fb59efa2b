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
    let Some(head) = Head::parse(&head[..got]).filter(Head::is_core) else {
        return Ok(0);
    };
    // Without a count there is nothing to duplicate. An unreadable payload fails when it is written.
    let Ok(count) = head.segment_count(payload, "full dump") else {
        return Ok(0);
    };
    // A count of 32 bits, and a size of 16 bits.
    let table = count * u64::from(head.phentsize);
    let end = head.phoff.saturating_add(table);
    Ok(end.checked_next_multiple_of(4096).map_or(0, of_headers))
}

#[cfg(test)]
mod tests {
    use livecore_defs::elf::{CLASS64, ET_CORE, PN_XNUM};

    use super::*;

    /// The headers of a little-endian ELF64 core without program headers.
    fn core(phnum: u16, section_0: Option<u32>) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let mut put = |offset: usize, value: u64, len: usize| {
            bytes[offset..offset + len].copy_from_slice(&value.to_le_bytes()[..len]);
        };
        put(16, ET_CORE.into(), 2);
        put(CLASS64.e_phoff.offset, 64, 8);
        put(CLASS64.e_phentsize.offset, 56, 2);
        put(CLASS64.e_phnum.offset, phnum.into(), 2);
        if let Some(count) = section_0 {
            put(CLASS64.e_shoff.offset, 64, 8);
            bytes.extend([0; 64]);
            bytes[64 + 44..64 + 48].copy_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_headers_of_a_core_include_all_program_headers() {
        let len = |phnum, section_0| of_payload(&core(phnum, section_0)).unwrap();
        assert_eq!(len(2, None), 4096);
        assert_eq!(len(1000, None), 57_344);
        // 64 + 70,000 * 56 bytes.
        assert_eq!(len(PN_XNUM, Some(70_000)), 3_923_968);
        assert_eq!(len(PN_XNUM, Some(u32::MAX)), 0);
        assert_eq!(len(PN_XNUM, None), 0);
    }
}
