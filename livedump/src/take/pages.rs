//! Where the pages of a dump come from: memory, perhaps under observation, with what the producer
//! puts into them.

use std::io;
use std::sync::Arc;

use livecore_minidump::{PageSource, PhysAddr, PhysMemory};

use super::patch::Patches;
use crate::torn::Watch;

/// The pages of a machine that is being dumped.
pub(super) struct Pages {
    pub(super) memory: Arc<dyn PhysMemory>,
    pub(super) page: u64,
    pub(super) patches: Patches,
    pub(super) watch: Option<Arc<Watch>>,
}

impl PageSource for Pages {
    fn read_pages(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        match &self.watch {
            Some(watch) => watch.read_pages(at, buf)?,
            None => self.memory.read(at.0, buf)?,
        }
        self.patches.apply(at.0, self.page, buf);
        Ok(())
    }

    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        self.watch.is_none()
            && self.memory.known_zero(at.0, len)
            && !self.patches.touches(at.0, len)
    }
}
