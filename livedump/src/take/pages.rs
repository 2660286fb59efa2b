//! The pages of a dump: memory, watched for changes if requested, with the producer's patches.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_minidump::{PhysAddr, PhysMemory};

use super::patch::Patches;
use crate::torn::Watch;

/// The pages of a machine that is being dumped.
pub(super) struct Pages {
    pub(super) memory: Arc<dyn PhysMemory>,
    pub(super) page: u64,
    pub(super) patches: Patches,
    pub(super) watch: Option<Arc<Watch>>,
}

impl PhysMemory for Pages {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.memory.ranges()
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        match &self.watch {
            Some(watch) => watch.read(at, buf)?,
            None => self.memory.read(at, buf)?,
        }
        self.patches.apply(at.0, self.page, buf);
        Ok(())
    }

    fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
        self.watch.is_none() && self.memory.known_zero(at, len) && !self.patches.touches(at.0, len)
    }
}
