//! Work without the interpreter's lock.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use livecore_compress::Progress;
use pyo3::prelude::*;

use crate::failure::Failure;

/// Runs `work` without the interpreter's lock. A panic becomes an exception `PanicError`.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> PyResult<T> {
    // A dump is not modified after it was opened, so a panic leaves no broken state.
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    match done {
        Ok(result) => result.map_err(PyErr::from),
        Err(panic) => Err(Failure::panic(text(&*panic)).into()),
    }
}

/// Runs long `work` like [`detached`]. A signal handler of Python that raises, as that of SIGINT
/// does, cancels it.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&dyn Progress) -> Result<T, Failure> + Send,
) -> PyResult<T> {
    let signals = Signals::default();
    let result = detached(py, || work(&signals));
    match signals.raised.into_inner() {
        Ok(Some(raised)) => Err(raised),
        _ => result,
    }
}

/// The interval at which signals are handled.
const INTERVAL: Duration = Duration::from_millis(50);

/// Handles Python's signals while Rust works.
#[derive(Default)]
struct Signals {
    last: Mutex<Option<Instant>>,
    stop: AtomicBool,
    raised: Mutex<Option<PyErr>>,
}

impl Progress for Signals {
    fn cancelled(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return true;
        }
        // Another thread handles them now.
        let Ok(mut last) = self.last.try_lock() else {
            return false;
        };
        if last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return false;
        }
        *last = Some(Instant::now());
        drop(last);
        let Err(error) = Python::attach(|py| py.check_signals()) else {
            return false;
        };
        if let Ok(mut raised) = self.raised.lock() {
            *raised = Some(error);
        }
        self.stop.store(true, Ordering::Relaxed);
        true
    }
}

/// The message of a panic.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".into())
}

/// Panics with this message, as a bug in Livecore would. For the tests of the package.
#[pyfunction]
pub(crate) fn _panic(py: Python<'_>, message: String) -> PyResult<()> {
    detached(py, || panic!("{message}"))
}
