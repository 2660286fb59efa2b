//! Signal handling by a waiting thread.
#![expect(
    unsafe_code,
    reason = "sigaction(2) is the only way to ask whether a signal is ignored"
)]

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
    SIGXFSZ,
};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The signals that request a progress line: SIGUSR1, and SIGINFO (Ctrl-T) where it exists.
pub const STATUS: &[i32] = &[
    SIGUSR1,
    #[cfg(any(target_os = "freebsd", target_os = "macos"))]
    signal_hook::consts::SIGINFO,
];

/// Sends to a socket without SIGPIPE. macOS has no such flag: a program there has to ignore the signal.
#[cfg(not(target_os = "macos"))]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_os = "macos")]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();

/// The signals that end a process after cleanup.
const ENDING: [i32; 9] = [
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR2, SIGALRM, SIGVTALRM, SIGXCPU, SIGABRT,
];

static WATCHING: AtomicBool = AtomicBool::new(false);

/// Whether SIGINT is ignored, for a program in the foreground.
static IGNORE_INTERRUPTS: AtomicBool = AtomicBool::new(false);

/// Starts or stops ignoring SIGINT, for the time that a program such as a debugger runs in the
/// foreground and handles it.
pub fn ignore_interrupts(ignore: bool) {
    IGNORE_INTERRUPTS.store(ignore, Ordering::Relaxed);
}

/// The message on standard error when a signal ends the process.
static NOTE: Mutex<Option<&'static str>> = Mutex::new(None);

/// Sets a message that is printed when a signal ends the process.
pub fn note_on_exit(note: Option<&'static str>) {
    *NOTE.lock().unwrap_or_else(PoisonError::into_inner) = note;
}

/// Whether the terminal on standard error has an incomplete line. Locked while one is drawn.
static LINE: Mutex<bool> = Mutex::new(false);

/// How long a signal that ends the process waits for [`draw_line`]: the terminal may be stopped.
const DRAWING_LIMIT: Duration = Duration::from_secs(1);

/// Runs `draw`, which draws or updates an incomplete line on the terminal. A signal that ends the
/// process then first clears the terminal's last line and prints the signal's name; after that,
/// nothing is drawn.
pub fn draw_line(draw: impl FnOnce()) {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    *line = true;
    draw();
}

/// Runs `clear`, which removes the incomplete line from the terminal.
pub fn clear_line(clear: impl FnOnce()) {
    let mut line = LINE.lock().unwrap_or_else(PoisonError::into_inner);
    clear();
    *line = false;
}

/// Whether there is an incomplete line. Prevents further drawing, unless a thread is blocked in it.
fn end_drawing() -> bool {
    let began = Instant::now();
    while began.elapsed() < DRAWING_LIMIT {
        if let Ok(line) = LINE.try_lock() {
            let drawn = *line;
            std::mem::forget(line);
            return drawn;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Runs `before_exit` on its own thread when a signal would end the process (SIGINT, SIGTERM,
/// SIGHUP, SIGQUIT, SIGUSR2, SIGALRM, SIGVTALRM, SIGXCPU, SIGABRT), then exits with 128 + the
/// signal's number, without destructors and exit handlers.
///
/// Only the first call has an effect. Ignored signals stay ignored. SIGXFSZ becomes harmless: a
/// write beyond the limit fails with EFBIG.
///
/// # Errors
///
/// The system's error if the thread or a handler cannot be installed. All signals have their
/// default action then.
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

/// The body of the thread.
type Watch = Box<dyn FnOnce() + Send>;

/// Starts the thread with `spawn` and then installs the handlers. In the other order, a failure to
/// start the thread would leave signals ignored.
fn watch(before_exit: fn(i32), spawn: impl FnOnce(Watch) -> io::Result<()>) -> io::Result<()> {
    let (installed, waiting) = mpsc::channel::<Signals>();
    spawn(Box::new(move || {
        let Ok(mut signals) = waiting.recv() else {
            return;
        };
        let mine = |signal: &i32| *signal != SIGINT || !IGNORE_INTERRUPTS.load(Ordering::Relaxed);
        if let Some(signal) = signals.forever().find(mine) {
            before_exit(signal);
            if end_drawing() {
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
    // The handler does nothing, but replaces the default action.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let wanted = ENDING.into_iter().filter(|signal| !is_ignored(*signal));
    installed
        .send(Signals::new(wanted)?)
        .map_err(|_| io::Error::other("the signal thread has exited"))
}

/// Stores the number of a signal that would end the process in `seen`, and writes a byte to `wake`. The
/// second signal ends the process at once, with 128 + its number.
///
/// Ignored signals stay ignored. SIGXFSZ becomes harmless, as with [`on_termination`].
///
/// # Errors
///
/// The system's error if a handler cannot be installed.
pub fn notify(wake: &UnixStream, seen: &Arc<AtomicUsize>) -> io::Result<()> {
    let again = Arc::new(AtomicBool::new(false));
    for signal in ENDING.into_iter().filter(|signal| !is_ignored(*signal)) {
        // The handlers of a signal run in this order. Numbers of signals are positive.
        let number = signal.unsigned_abs() as usize;
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(seen), number)?;
        signal_hook::low_level::pipe::register(signal, wake.try_clone()?)?;
    }
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

fn is_ignored(signal: i32) -> bool {
    action(signal) == Some(libc::SIG_IGN)
}

/// The current action for `signal`.
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
    fn signals_keep_the_default_action_without_the_thread() {
        // Other tests install handlers only in separate processes.
        let before = ENDING.map(action);
        let error = watch(|_| {}, |_| Err(io::Error::from_raw_os_error(libc::EAGAIN))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(ENDING.map(action), before);
    }
}
