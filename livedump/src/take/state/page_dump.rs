//! A kernel's `vm_page_dump`: the pages that it would dump, before the kernel map is added.

use livecore_kernel::locate::{Variables, address, bitmap_follows_dump_avail};
use livecore_minidump::DumpAvail;

use crate::take::error::TakeError;
use crate::take::marks::Marks;

/// Reads it.
pub(super) fn read(
    variables: Variables<'_>,
    avail: &DumpAvail,
    page: u64,
) -> Result<Marks, TakeError> {
    const CHUNK: usize = 64 << 10;
    let ranges = if bitmap_follows_dump_avail(variables.elf) {
        let pages = variables.long("vm_page_dump_pages")?;
        if pages != avail.bits() {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_pages",
                found: pages.to_string(),
                expected: format!("{}, the pages of dump_avail", avail.bits()),
            });
        }
        avail.clone()
    } else {
        let bytes = u64::from(variables.u32("vm_page_dump_size")?);
        let expected = avail.end().div_ceil(page).div_ceil(8);
        if bytes < expected || bytes > expected + page {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_size",
                found: format!("{bytes:#x}"),
                expected: format!("{expected:#x}, up to the end of dump_avail"),
            });
        }
        DumpAvail::from_zero(bytes * 8, page)
    };
    let mut marks = Marks::new(ranges, page)?;
    let start = variables.long_at("vm_page_dump", address(variables.elf, "vm_page_dump")?)?;
    // Words of 32 bits in little endian are halves of words of 64; the last one may be a half.
    let word = variables.elf.pointer_size() as u64;
    let len = marks.ranges().bits().div_ceil(8 * word) * word;
    let mut chunk = vec![0; CHUNK];
    for offset in (0..len).step_by(CHUNK) {
        let n = (len - offset).min(CHUNK as u64) as usize;
        variables.bytes(
            "vm_page_dump",
            start.saturating_add(offset),
            &mut chunk[..n],
        )?;
        chunk[n..n.next_multiple_of(8)].fill(0);
        let (words, _) = chunk[..n.next_multiple_of(8)].as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        marks.load(offset as usize / 8, words);
    }
    Ok(marks)
}
