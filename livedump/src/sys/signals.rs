//! Signals, by a thread that waits for them.
#![expect(
    unsafe_code,
    reason = "sigaction(2) is the only way to ask whether a signal is ignored"
)]

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;

/// The signals that ask a program how far it is: SIGUSR1, and SIGINFO (Ctrl-T) where there is one.
pub const STATUS: &[i32] = &[
    SIGUSR1,
    #[cfg(any(target_os = "freebsd", target_os = "macos"))]
    signal_hook::consts::SIGINFO,
];

static WATCHING: OnceLock<()> = OnceLock::new();

/// Whether SIGINT is somebody else's for the time being.
static INTERRUPTS_PASS: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT is passed over, or no longer: for as long as a program runs in the foreground
/// that knows what to do with it, such as a debugger.
pub fn pass_over_interrupts(pass: bool) {
    INTERRUPTS_PASS.store(pass, Ordering::Relaxed);
}

/// What is said on standard error when a signal ends the process.
static NOTE: Mutex<Option<&'static str>> = Mutex::new(None);

/// From now on a signal that ends the process says `note` first.
pub fn note_on_exit(note: Option<&'static str>) {
    *NOTE.lock().unwrap_or_else(PoisonError::into_inner) = note;
}

/// Runs `before_exit` on a thread of its own when SIGINT, SIGTERM, SIGHUP or SIGQUIT comes, then ends the
/// process with 128 + the signal's number, without destructors and exit handlers.
///
/// Only the first call counts. Signals that are ignored when it is made stay ignored, and SIGXFSZ
/// becomes harmless: a write beyond the limit fails with EFBIG instead.
pub fn on_termination(before_exit: fn(i32)) -> io::Result<()> {
    if WATCHING.set(()).is_err() {
        return Ok(());
    }
    let ignored = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].map(|signal| (signal, is_ignored(signal)));
    let wanted = ignored
        .iter()
        .filter(|(_, ignored)| !ignored)
        .map(|(signal, _)| *signal)
        .collect::<Vec<_>>();
    // A handler that does nothing of interest: its presence is what keeps the process alive.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let mut signals = Signals::new(wanted)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mine = |signal: &i32| *signal != SIGINT || !INTERRUPTS_PASS.load(Ordering::Relaxed);
            if let Some(signal) = signals.forever().find(mine) {
                before_exit(signal);
                let note = *NOTE.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(note) = note {
                    let _ = writeln!(io::stderr(), "{note}");
                }
                signal_hook::low_level::exit(128 + signal);
            }
        })?;
    Ok(())
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction(2) has no invariants that all zeros break: it is integers, a set of bits
    // and a handler whose zero is SIG_DFL.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `signal` is a valid signal number, a null new action means that nothing is changed,
    // and `now` is a live `sigaction` that the call may fill.
    let rc = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
    rc == 0 && now.sa_sigaction == libc::SIG_IGN
}
