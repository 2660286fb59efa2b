//! Handles the process's signals.
//!
//! On SIGINT, SIGTERM, SIGHUP and SIGQUIT a thread removes the temporary files and exits with 128 +
//! the signal's number, even if the verb is blocked in a pipe. SIGUSR1 (and SIGINFO, where it
//! exists) prints one line of progress. A program that uses the library raises an [`Interrupt`]
//! instead.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use livecore_livedump::sys::signals::{STATUS, notify};
use signal_hook::iterator::Signals;

use crate::id::Id;
use crate::interrupt::Interrupt;
use crate::message::{Form, Level, Message};

/// Installs the signal handlers. Progress is printed in `form`.
pub(crate) fn watch(interrupt: &Interrupt, form: Form) -> io::Result<()> {
    livecore_livedump::publish::watch_signals()?;
    print_status(interrupt, form)
}

/// Installs the handlers for a server, which stops at the first signal after it has kept its work: they
/// raise `interrupt` and write a byte to `wake`. The second signal ends the process.
pub(crate) fn raise(interrupt: &Interrupt, form: Form, wake: &UnixStream) -> io::Result<()> {
    notify(wake, &interrupt.signal())?;
    print_status(interrupt, form)
}

/// Installs the handlers for a verb that removes what it has sent to a server, or resumes a guest: the
/// first signal raises `interrupt`, the second ends the process.
pub(crate) fn raise_only(interrupt: &Interrupt, form: Form) -> io::Result<()> {
    // The verb asks `interrupt`, and reads no byte.
    let (wake, _) = UnixStream::pair()?;
    raise(interrupt, form, &wake)
}

fn print_status(interrupt: &Interrupt, form: Form) -> io::Result<()> {
    let mut signals = Signals::new(STATUS)?;
    let interrupt = interrupt.clone();
    std::thread::Builder::new()
        .name("status".into())
        .spawn(move || {
            for _ in signals.forever() {
                let message = Message::new(Level::Note, Id::Progress, interrupt.status());
                let _ = io::stderr().write_all(message.line(form).as_bytes());
            }
        })?;
    Ok(())
}

/// The name of a signal: `SIGINT` for 2.
pub(crate) fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("unknown signal")
}
