//! Signals, by a thread that waits for them.
#![expect(
    unsafe_code,
    reason = "sigaction(2) is the only way to ask whether a signal is ignored"
)]

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
    SIGXFSZ,
};
use signal_hook::iterator::Signals;

/// The signals that ask a program how far it is: SIGUSR1, and SIGINFO (Ctrl-T) where there is one.
pub const STATUS: &[i32] = &[
    SIGUSR1,
    #[cfg(any(target_os = "freebsd", target_os = "macos"))]
    signal_hook::consts::SIGINFO,
];

/// The signals that end a process and that it can still clean up after.
const ENDING: [i32; 9] = [
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR2, SIGALRM, SIGVTALRM, SIGXCPU, SIGABRT,
];

static WATCHING: AtomicBool = AtomicBool::new(false);

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

/// Whether a line without an end is on standard error's terminal.
static LINE: AtomicBool = AtomicBool::new(false);

/// From now on a signal that ends the process clears the terminal's last line first, and says which
/// signal it was.
pub fn clear_line_on_exit(clear: bool) {
    LINE.store(clear, Ordering::Relaxed);
}

/// Runs `before_exit` on a thread of its own when a signal comes that would end the process (SIGINT,
/// SIGTERM, SIGHUP, SIGQUIT, SIGUSR2, SIGALRM, SIGVTALRM, SIGXCPU, SIGABRT), then ends the process
/// with 128 + the signal's number, without destructors and exit handlers.
///
/// Only the first call counts. Signals that are ignored when it is made stay ignored, and SIGXFSZ
/// becomes harmless: a write beyond the limit fails with EFBIG instead.
///
/// # Errors
///
/// The system's error if there can be no thread or no handler. Every signal has its default action
/// then.
pub fn on_termination(before_exit: fn(i32)) -> io::Result<()> {
    if WATCHING.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let spawn = |watch: Watch| {
        let thread = std::thread::Builder::new().name("signals".into());
        thread.spawn(watch).map(drop)
    };
    watch(before_exit, spawn).inspect_err(|_| WATCHING.store(false, Ordering::Relaxed))
}

/// What the thread does.
type Watch = Box<dyn FnOnce() + Send>;

/// Has `spawn` start the thread, and then installs the handlers: a handler without the thread would
/// have the process ignore its signals.
fn watch(before_exit: fn(i32), spawn: impl FnOnce(Watch) -> io::Result<()>) -> io::Result<()> {
    let (installed, waiting) = mpsc::channel::<Signals>();
    spawn(Box::new(move || {
        let Ok(mut signals) = waiting.recv() else {
            return;
        };
        let mine = |signal: &i32| *signal != SIGINT || !INTERRUPTS_PASS.load(Ordering::Relaxed);
        if let Some(signal) = signals.forever().find(mine) {
            before_exit(signal);
            if LINE.load(Ordering::Relaxed) {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                let _ = writeln!(io::stderr(), "\r\x1b[2Klivecore: stopped by {name}");
            }
            let note = *NOTE.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(note) = note {
                let _ = writeln!(io::stderr(), "{note}");
            }
            signal_hook::low_level::exit(128 + signal);
        }
    }))?;
    // A handler that does nothing of interest: its presence is what keeps the process alive.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let wanted = ENDING.into_iter().filter(|signal| !is_ignored(*signal));
    installed
        .send(Signals::new(wanted)?)
        .map_err(|_| io::Error::other("the thread that waits for signals is gone"))
}

fn is_ignored(signal: i32) -> bool {
    action(signal) == Some(libc::SIG_IGN)
}

/// What the process does with `signal`.
fn action(signal: i32) -> Option<libc::sighandler_t> {
    // SAFETY: sigaction(2) has no invariants that all zeros break: it is integers, a set of bits
    // and a handler whose zero is SIG_DFL.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `signal` is a valid signal number, a null new action means that nothing is changed,
    // and `now` is a live `sigaction` that the call may fill.
    let rc = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) };
    (rc == 0).then_some(now.sa_sigaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_thread_a_signal_has_its_default_action() {
        // No test of this program installs handlers: those that do run in a process of their own.
        let before = ENDING.map(action);
        let error = watch(|_| {}, |_| Err(io::Error::from_raw_os_error(libc::EAGAIN))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(ENDING.map(action), before);
    }
}
