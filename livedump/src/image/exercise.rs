//! Properties of any bytes opened as an image, for fuzz targets.

use livecore_minidump::PhysAddr;
use std::sync::Arc;

use livecore_defs::amd64::PAGE_SIZE;

use super::{Options, open_bytes};

/// Memory limit for tables and caches, in bytes.
const MEMORY: u64 = 1 << 20;

/// Opens `bytes` as an image of any format and reads parts of its memory. Returns whether they are
/// an image.
///
/// # Panics
///
/// A property is violated: ranges are sorted, disjoint and complete pages; memory in a range is
/// readable or an error; memory outside is an error; part of a readable page is readable and has
/// the bytes of the page; known zeros are zeros.
pub fn exercise(bytes: &[u8]) -> bool {
    let options = Options::default()
        .tables(MEMORY)
        .memory(16 * MEMORY)
        .threads(std::num::NonZeroUsize::MIN);
    let image = match open_bytes(Arc::new(bytes.to_vec()), &options) {
        Ok(image) => image,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let memory = &*image.memory;
    let ranges = memory.ranges();
    assert!(!ranges.is_empty(), "image without memory");
    for range in ranges {
        assert!(range.start < range.end, "{range:#x?} is empty");
        assert!(range.start.offset_in(PAGE_SIZE) == 0 && range.end.offset_in(PAGE_SIZE) == 0);
    }
    for two in ranges.windows(2) {
        assert!(two[0].end <= two[1].start, "{two:#x?} overlap");
    }
    let mut page = vec![0; PAGE_SIZE as usize];
    let mut part = [0; 24];
    for range in ranges.iter().take(8).chain(ranges.last()) {
        let range = range.start.0..range.end.0;
        let middle = range.start + (range.end - range.start) / 2 / PAGE_SIZE * PAGE_SIZE;
        for at in [range.start, middle, range.end - PAGE_SIZE] {
            let whole = memory.read(PhysAddr(at), &mut page);
            let again = memory.read(PhysAddr(at + 1000), &mut part);
            // Of a page in two chunks, one of which is damaged, a part is readable.
            if whole.is_ok() {
                assert!(again.is_ok(), "page {at:#x}");
                assert!(page[1000..1024] == part, "page {at:#x}");
                let zero = memory.known_zero(PhysAddr(at), PAGE_SIZE);
                assert!(!zero || livecore_compress::is_zero(&page), "page {at:#x}");
            }
        }
        let inside = |at: u64| ranges.iter().any(|r| r.contains(&PhysAddr(at)));
        for at in [range.start.wrapping_sub(1), range.end] {
            if !inside(at) {
                assert!(
                    memory.read(PhysAddr(at), &mut part[..1]).is_err(),
                    "outside, {at:#x}"
                );
            }
        }
    }
    true
}
