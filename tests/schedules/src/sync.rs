//! Locks and threads of shuttle, in place of `compress/src/sync.rs`.

use std::io;

pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread::{Scope, scope};

pub(crate) fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    _name: String,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    scope.spawn(work);
    Ok(())
}
