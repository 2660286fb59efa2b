//! Memory of a machine with some changed bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use livecore_minidump::{PhysAddr, PhysMemory};

/// Bytes that are copied for a changed byte.
const PAGE: u64 = 4096;

/// A machine's memory with some changed bytes.
pub(crate) struct Patched {
    memory: Arc<dyn PhysMemory>,
    /// Complete pages.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Patched {
    pub(crate) fn new(memory: Arc<dyn PhysMemory>) -> Self {
        Self {
            memory,
            pages: BTreeMap::new(),
        }
    }

    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let start = at - at % PAGE;
            let page = self.pages.entry(start).or_insert_with(|| {
                let mut page = vec![0; PAGE as usize];
                self.memory.read(PhysAddr(start), &mut page).unwrap();
                page
            });
            page[(at % PAGE) as usize] = *byte;
        }
    }
}

impl PhysMemory for Patched {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.memory.ranges()
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(PhysAddr(at), buf)?;
        let first = at - at % PAGE;
        for (start, page) in self.pages.range(first..at + buf.len() as u64) {
            let skip = at.saturating_sub(*start) as usize;
            let to = start.saturating_sub(at) as usize;
            let n = (page.len() - skip).min(buf.len() - to);
            buf[to..to + n].copy_from_slice(&page[skip..skip + n]);
        }
        Ok(())
    }
}
