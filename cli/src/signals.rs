//! The process's signals: a request to stop, and the question how far the work is.
//!
//! The program ends on SIGINT, SIGTERM, SIGHUP and SIGQUIT without asking a verb: a thread removes the
//! temporary files and exits with 128 + the signal's number, which works when the verb is stuck in
//! a pipe too. SIGUSR1 (and SIGINFO where there is one) prints one line of progress. A program
//! that uses the library raises an [`Interrupt`] itself.

use std::io::{self, Write};

use livecore_livedump::sys::signals::STATUS;
use signal_hook::iterator::Signals;

use crate::interrupt::Interrupt;

/// Has the process's signals watched.
pub(crate) fn watch(interrupt: &Interrupt) -> io::Result<()> {
    livecore_livedump::publish::watch_signals()?;
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
