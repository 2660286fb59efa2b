//! Changes to a dump's pages. They are made in the copies that are written; memory is not changed.

use std::collections::BTreeMap;

use livecore_minidump::{KernelMemory, ReadError, VirtAddr};

/// Changes by physical page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patches {
    /// The address of a page, with offsets and bytes of its changes in order.
    pages: BTreeMap<u64, Vec<(usize, Vec<u8>)>>,
}

impl Patches {
    /// Puts `bytes` at virtual address `at`, page by page.
    pub(super) fn put(
        &mut self,
        memory: &dyn KernelMemory,
        at: VirtAddr,
        bytes: &[u8],
    ) -> Result<(), ReadError> {
        let page = memory.page_size();
        let mut done = 0;
        // Translate all addresses before making a change.
        let mut pieces = Vec::new();
        while done < bytes.len() {
            let here = at.wrapping_add(done as u64);
            let pa = memory.translate(here)?;
            let left = (page - pa.0 % page) as usize; // less than a page
            let n = left.min(bytes.len() - done);
            pieces.push((pa.0, bytes[done..done + n].to_vec()));
            done += n;
        }
        for (pa, bytes) in pieces {
            let changes = self.pages.entry(pa - pa % page).or_default();
            changes.push(((pa % page) as usize, bytes));
        }
        Ok(())
    }

    /// Applies the changes to `buf`, complete pages of `page` bytes from `at` on.
    pub(super) fn apply(&self, at: u64, page: u64, buf: &mut [u8]) {
        let end = at.saturating_add(buf.len() as u64);
        for (pa, changes) in self.pages.range(at..end) {
            let skip = (pa - at) as usize;
            let Some(bytes) = buf.get_mut(skip..skip + page as usize) else {
                continue;
            };
            for (offset, change) in changes {
                if let Some(target) = bytes.get_mut(*offset..offset + change.len()) {
                    target.copy_from_slice(change);
                }
            }
        }
    }

    /// Whether a page of `at..at + len` is changed.
    pub(super) fn touches(&self, at: u64, len: u64) -> bool {
        let end = at.saturating_add(len);
        self.pages.range(at..end).next().is_some()
    }
}
