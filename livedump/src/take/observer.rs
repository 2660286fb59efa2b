//! Who hears what a run is doing.

use livecore_compress::{NoProgress, Progress};

/// A part of a run that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The running kernel writes its dump; bytes are an estimate.
    Kernel,
    /// A guest's pages are copied while it runs.
    Copy,
    /// The guest is paused, and its pages are compared with the copy.
    Compare,
    /// QEMU writes the guest's memory.
    Hypervisor,
    /// Memory is read, perhaps again, to see what changes.
    ReadAgain,
    /// The dump is written.
    Write,
}

impl Stage {
    /// A word or two for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel dump",
            Self::Copy => "copy",
            Self::Compare => "paused",
            Self::Hypervisor => "QEMU's dump",
            Self::ReadAgain => "read again",
            Self::Write => "take",
        }
    }
}

/// Hears what a run is doing, and may end it.
pub trait Observer {
    /// A stage begins, over `total` bytes if that is known. What is given hears how far it is, and
    /// whether it is to end; it is dropped when the stage is over.
    fn begin(&mut self, stage: Stage, total: Option<u64>) -> Box<dyn Progress>;

    /// Something that a person should know now, in one line.
    fn say(&mut self, note: &str);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn begin(&mut self, _: Stage, _: Option<u64>) -> Box<dyn Progress> {
        Box::new(NoProgress)
    }

    fn say(&mut self, _: &str) {}
}
