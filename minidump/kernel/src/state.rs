//! What a thread does: by its structure, or by the functions on its stack.

use std::fmt;

use crate::process::Walk;
use crate::thread::{Context, Thread};
use crate::{Frame, Kernel};

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

/// `td_inhibitors`, and what each means; the first that is set counts. FreeBSD `sys/sys/proc.h`.
const INHIBITORS: [(u64, State); 5] = [
    (0x04, State::Swapped),
    (0x01, State::Suspended),
    (0x08, State::Locked),
    (0x10, State::InterruptWait),
    (0x02, State::Sleeping),
];

/// Functions that tell what a thread waits for, if they are the first of these on its stack.
const WAITERS: [(&str, State); 15] = [
    ("sleepq_", State::Sleeping),
    ("turnstile_wait", State::Locked),
    ("thread_suspend_switch", State::Suspended),
    ("thread_suspend_check", State::Suspended),
    ("thread_single", State::Suspended),
    ("ithread_loop", State::InterruptWait),
    ("kern_yield", State::Runnable),
    ("sched_relinquish", State::Runnable),
    ("maybe_yield", State::Runnable),
    ("critical_exit", State::Runnable),
    ("critical_exit_preempt", State::Runnable),
    ("sched_preempt", State::Runnable),
    ("sched_bind", State::Runnable),
    ("sched_idletd", State::Runnable),
    ("ast", State::Runnable),
];

impl Walk<'_> {
    /// What the structure of the thread at `at` says.
    pub(super) fn state(&self, at: u64, on_cpu: bool, zombie: bool) -> State {
        if zombie {
            return State::Zombie;
        }
        if on_cpu {
            return State::Running;
        }
        let member = |name, member: Option<_>| self.typed(at, name, member?);
        let inhibitors = member("td_inhibitors", self.typed.inhibitors).unwrap_or(0);
        // TDS_INACTIVE and its successors.
        match member("td_state", self.typed.state) {
            Some(0) => State::New,
            Some(1) => INHIBITORS
                .iter()
                .find(|(bit, _)| inhibitors & bit != 0)
                .map_or(State::OffCpu, |(_, state)| *state),
            Some(2 | 3) => State::Runnable,
            _ => State::OffCpu,
        }
    }

    /// What the thread at `at` waits for.
    pub(super) fn wait(&self, at: u64) -> Option<String> {
        let message = |name, member| {
            let text = self.typed(at, name, member)?;
            (text != 0).then(|| self.kernel.message(text)).flatten()
        };
        let wait = self.typed.wait.and_then(|m| message("td_wmesg", m));
        wait.or_else(|| self.typed.lock.and_then(|m| message("td_lockname", m)))
    }
}

impl Kernel<'_> {
    /// What a thread does: what its structure says, and if that says no more than that it is off
    /// its CPU, what the functions on its stack say. Reads the stack only then.
    pub fn state(&self, thread: &Thread) -> State {
        if thread.state != State::OffCpu || thread.context != Context::SwitchedOut {
            return thread.state;
        }
        match self.registers(thread) {
            Ok(registers) => by_stack(&self.stack(&registers)),
            Err(_) => State::OffCpu,
        }
    }
}

fn by_stack(frames: &[Frame]) -> State {
    let name = |frame: &Frame| frame.function.clone().map(|(name, _)| name);
    if frames.first().and_then(name).as_deref() == Some("fork_trampoline") {
        return State::New;
    }
    let waiter = |frame: &Frame| {
        let name = name(frame)?;
        let found = WAITERS.iter().find(|(waiter, _)| {
            name == *waiter || waiter.ends_with('_') && name.starts_with(waiter)
        });
        found.map(|(_, state)| *state)
    };
    frames.iter().find_map(waiter).unwrap_or(State::OffCpu)
}
