//! The state of a thread.

use std::fmt;

/// The state of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its process has ended.
    Zombie,
    /// It is on a CPU.
    Running,
    /// It waits for a CPU.
    Runnable,
    /// It waits for an event.
    Sleeping,
    /// It was stopped by a signal, a debugger or its own process.
    Suspended,
    /// Its stack is not in memory.
    Swapped,
    /// It waits for a lock.
    Locked,
    /// It is an interrupt thread that waits for its interrupt.
    InterruptWait,
    /// It has never run.
    New,
    /// It is not on a CPU, for an unknown reason.
    OffCpu,
}

impl State {
    /// The name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zombie => "zombie",
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Sleeping => "sleeping",
            Self::Suspended => "suspended",
            Self::Swapped => "swapped",
            Self::Locked => "locked",
            Self::InterruptWait => "interrupt-wait",
            Self::New => "new",
            Self::OffCpu => "off-cpu",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
