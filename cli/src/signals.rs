//! Signals as verbs see them: a request to stop, and the question how far the work is.
//!
//! The program ends on SIGINT, SIGTERM, SIGHUP and SIGQUIT without asking a verb: a thread removes the
//! temporary files and exits with 128 + the signal's number, which works when the verb is stuck in
//! a pipe too. SIGUSR1 (and SIGINFO where there is one) prints one line of progress. A program
//! that uses the library raises an [`Interrupt`] itself.

use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use livecore_livedump::sys::signals::STATUS;
use signal_hook::iterator::Signals;

use crate::progress::Work;

/// A request to stop, and what is being done meanwhile. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0 for none.
    signal: AtomicI32,
    work: Mutex<Option<Arc<Work>>>,
}

impl Interrupt {
    /// Asks for the work to stop as if signal `number` had come.
    pub fn raise(&self, number: i32) {
        self.0.signal.store(number, Ordering::Relaxed);
    }

    /// The signal that asked for the work to stop.
    pub fn raised(&self) -> Option<i32> {
        match self.0.signal.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number),
        }
    }

    /// Says what is being done from now on, for those who ask.
    pub(crate) fn set_work(&self, work: Option<Arc<Work>>) {
        *self.0.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }

    /// One line of how far the work is.
    pub fn status(&self) -> String {
        match &*self.0.work.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(work) => work.to_string(),
            None => "nothing to count yet".into(),
        }
    }
}

/// Has the process's signals watched.
pub(crate) fn watch(interrupt: &Interrupt) -> io::Result<()> {
    livecore_livedump::place::watch_signals()?;
    let mut signals = Signals::new(STATUS)?;
    let interrupt = interrupt.clone();
    std::thread::Builder::new()
        .name("status".into())
        .spawn(move || {
            for _ in signals.forever() {
                let line = format!("livecore: {}\n", interrupt.status());
                let _ = io::stderr().write_all(line.as_bytes());
            }
        })?;
    Ok(())
}

/// `SIGINT` for 2, and so on.
pub fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}
