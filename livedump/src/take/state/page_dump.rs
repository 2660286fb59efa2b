//! A kernel's `vm_page_dump`: the pages that it has marked, without those of the kernel map.

use livecore_kernel::Kernel;
use livecore_kernel::locate::bitmap_follows_dump_avail;
use livecore_minidump::{DumpAvail, VirtAddr};

use crate::take::error::TakeError;
use crate::take::marks::Marks;
use crate::take::note::Note;

/// Bytes for one read.
const CHUNK: usize = 64 << 10;

/// Reads the bitmap. In memory that `is_partial`, part of the bitmap may be missing; all pages of
/// that part are dumped then, with a note.
pub(in crate::take) fn read(
    kernel: &Kernel<'_>,
    avail: &DumpAvail,
    page: u64,
    is_partial: bool,
    notes: &mut Vec<Note>,
) -> Result<Marks, TakeError> {
    let ranges = if bitmap_follows_dump_avail(kernel.elf()) {
        let pages = kernel.long("vm_page_dump_pages")?;
        if pages != avail.bits() {
            return Err(TakeError::Contradiction {
                what: "vm_page_dump_pages",
                found: pages.to_string(),
                expected: format!("{}, the pages of dump_avail", avail.bits()),
            });
        }
        avail.clone()
    } else {
        let bytes = kernel.variable("vm_page_dump_size", 4)?;
        let expected = avail.end().0.div_ceil(page).div_ceil(8);
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
    let start = kernel.pointer("vm_page_dump")?;
    // Little-endian 32-bit words are halves of 64-bit words; the last one may be a half.
    let word = kernel.elf().pointer_size() as u64;
    let len = marks.ranges().bits().div_ceil(8 * word) * word;
    let mut chunk = vec![0; CHUNK];
    let mut missing = 0_u64;
    for offset in (0..len).step_by(CHUNK) {
        let n = (len - offset).min(CHUNK as u64) as usize;
        let at = start.saturating_add(offset);
        let read = kernel.bytes_at("vm_page_dump", at, &mut chunk[..n]);
        if !is_partial {
            read?;
        } else if read.is_err() {
            for (at, part) in (at.0..)
                .step_by(page as usize)
                .zip(chunk[..n].chunks_mut(page as usize))
            {
                if kernel.bytes_at("vm_page_dump", VirtAddr(at), part).is_err() {
                    part.fill(0xff);
                    missing += 1;
                }
            }
        }
        chunk[n..n.next_multiple_of(8)].fill(0);
        let (words, _) = chunk[..n.next_multiple_of(8)].as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        marks.load(offset as usize / 8, words);
    }
    if missing > 0 {
        notes.push(Note::BitmapPagesMissing { count: missing });
    }
    Ok(marks)
}
