//! Locks and threads of the pipeline and the frame cache. `tests/schedules` compiles both with the
//! locks and threads of a scheduler that tries many interleavings.

use std::io;
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::Builder;
pub(crate) use std::thread::{Scope, scope};

/// Starts a thread in `scope`.
///
/// # Errors
///
/// The system's error.
pub(crate) fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    Builder::new()
        .name(name)
        .spawn_scoped(scope, work)
        .map(drop)
}
