//! A cache of page tables of a dump.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use livecore_compress::ReadAt;

/// The number of cached pages. The slot of a page is its number modulo this.
const SLOTS: usize = 64;

type Slot = Option<(u64, Arc<[u8]>)>;

/// A cache of page tables.
pub(super) struct TableCache {
    slots: Mutex<Vec<Slot>>,
}

impl TableCache {
    pub(super) fn new() -> Self {
        Self {
            slots: Mutex::new(vec![None; SLOTS]),
        }
    }

    /// Returns the page at `offset`, a multiple of `page_size`. It is shorter at the end of `content`.
    pub(super) fn page(
        &self,
        content: &dyn ReadAt,
        offset: u64,
        page_size: u64,
    ) -> io::Result<Arc<[u8]>> {
        let slot = (offset / page_size % SLOTS as u64) as usize;
        // A slot is replaced in one step, so a panic cannot leave it inconsistent.
        let lock = || self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, page)) = &lock()[slot]
            && *at == offset
        {
            return Ok(Arc::clone(page));
        }
        let mut page = vec![0; page_size as usize];
        let got = content.read_full_at(&mut page, offset)?;
        page.truncate(got);
        let page: Arc<[u8]> = page.into();
        lock()[slot] = Some((offset, Arc::clone(&page)));
        Ok(page)
    }
}
