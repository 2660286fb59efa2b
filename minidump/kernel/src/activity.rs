//! The state of a thread, from its structure or from the functions on its stack.

use rayon::prelude::*;

use crate::frame::Frame;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::state::State;
use crate::thread::{Context, Thread};

/// Functions that identify a thread's state. The innermost one on the stack decides. A name that
/// ends with `_` is a prefix.
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

impl Kernel<'_> {
    /// Returns the state of a thread.
    ///
    /// If its structure has only the information that it is not on a CPU, the functions on its
    /// stack decide. Otherwise the stack is not read.
    pub fn state(&self, thread: &Thread) -> State {
        if thread.state != State::OffCpu || thread.context != Context::SwitchedOut {
            return thread.state;
        }
        match self.registers(thread) {
            Ok(registers) => by_stack(&self.physical(&registers)),
            Err(_) => State::OffCpu,
        }
    }

    /// Returns the states of all threads of these processes, in order, as [`Self::state`]. Reads
    /// stacks on all processors.
    pub fn states(&self, list: &[Process]) -> Vec<State> {
        let threads: Vec<&Thread> = list.iter().flat_map(|p| &p.threads).collect();
        threads
            .par_iter()
            .map(|thread| self.state(thread))
            .collect()
    }
}

fn by_stack(frames: &[Frame]) -> State {
    let name = |frame: &Frame| frame.function.clone().map(|(name, _)| name);
    // Since 15, kernel threads start in a separate trampoline.
    let first = frames.first().and_then(name);
    if matches!(
        first.as_deref(),
        Some("fork_trampoline" | "fork_trampoline_kthread")
    ) {
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
