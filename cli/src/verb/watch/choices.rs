//! The choices of the command line: events, and actions.

use clap::ValueEnum;
use livecore_livedump::qmp::Cause;

/// An event of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnArg {
    /// The kernel panicked and reported it to pvpanic
    Panic,
    /// The watchdog device expired
    Watchdog,
    /// The guest reset itself: a triple fault, or a reboot
    Reset,
}

/// What is done with a guest after its dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ThenArg {
    /// Leave it paused, as -action panic=pause
    Pause,
    /// Reset and run it
    Reset,
    /// Make QEMU exit, as -action panic=shutdown
    Shutdown,
}

impl OnArg {
    /// The cause of a dump.
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Panic => Cause::Panic,
            Self::Watchdog => Cause::Watchdog,
            Self::Reset => Cause::Reset,
        }
    }
}

impl ThenArg {
    /// The word on the command line and in JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Reset => "reset",
            Self::Shutdown => "shutdown",
        }
    }
}
