//! Helpers of several tests.

pub(crate) mod patched;

use std::collections::BTreeSet;

use livecore_minidump::{Dump, KernelMemory};

/// The physical pages in which two dumps with the same bitmap differ.
pub(crate) fn differing(one: &Dump, other: &Dump) -> BTreeSet<u64> {
    assert_eq!(one.bitmap().words(), other.bitmap().words());
    let size = one.page_size() as usize;
    let (mut a, mut b) = (vec![0; size], vec![0; size]);
    let mut pages = BTreeSet::new();
    for bit in one.bitmap().iter() {
        let at = one.dump_avail().addr_of(bit).unwrap();
        one.read_phys(at, &mut a).unwrap();
        other.read_phys(at, &mut b).unwrap();
        if a != b {
            pages.insert(at.0);
        }
    }
    pages
}
