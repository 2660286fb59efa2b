//! What a thread does.

use std::fmt;

/// What a thread does.
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
    /// It was stopped: by a signal, a debugger, its own process.
    Suspended,
    /// Its stack is not in memory.
    Swapped,
    /// It waits for a lock that another thread holds.
    Locked,
    /// It is an interrupt's, and waits for that.
    InterruptWait,
    /// It has never run.
    New,
    /// It is not on a CPU. Why, nothing says.
    OffCpu,
}

impl State {
    /// One word.
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
