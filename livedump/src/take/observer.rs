//! Progress and messages of a run.

use livecore_compress::{NoProgress, Progress};

use super::note::Note;

/// A long part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The running kernel writes its dump; bytes are an estimate.
    Kernel,
    /// Copying a guest's pages while it runs.
    Copy,
    /// Comparing the paused guest's pages with the copy.
    Compare,
    /// QEMU writes the guest's memory.
    Hypervisor,
    /// Reading memory, possibly again, to find changes.
    ReadAgain,
    /// Writing the dump.
    Write,
}

impl Stage {
    /// The name for progress output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel dump",
            Self::Copy => "copy",
            Self::Compare => "paused",
            Self::Hypervisor => "QEMU's dump",
            Self::ReadAgain => "reread",
            Self::Write => "take",
        }
    }
}

/// Gets progress and messages of a run, and may cancel it.
pub trait Observer {
    /// A stage of `total` bytes, if known, begins. The result gets its progress and may cancel it;
    /// it is dropped when the stage ends.
    fn begin(&mut self, stage: Stage, total: Option<u64>) -> Box<dyn Progress>;

    /// A note of one line for the user.
    fn say(&mut self, note: &Note);
}

/// Ignores progress and messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn begin(&mut self, _: Stage, _: Option<u64>) -> Box<dyn Progress> {
        Box::new(NoProgress)
    }

    fn say(&mut self, _: &Note) {}
}
