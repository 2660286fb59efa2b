//! Locks in a description.

use serde::Deserialize;

/// The class of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockClass {
    /// mutex(9) of type `MTX_DEF`.
    Mutex,
    /// rwlock(9).
    Rwlock,
    /// sx(9).
    Sx,
    /// lock(9).
    Lockmgr,
}

impl LockClass {
    /// Whether waiting threads are in a turnstile; otherwise they are in a sleep queue.
    pub fn has_turnstile(self) -> bool {
        matches!(self, Self::Mutex | Self::Rwlock)
    }
}

/// `[[lock]]`: a lock that threads wait for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table [[lock]]")]
pub struct Lock {
    /// `lo_name`, at most 63 bytes.
    pub name: String,
    /// Its class.
    pub class: LockClass,
    /// Number of threads that share it, if no thread of the description holds it. Not for a mutex.
    #[serde(default)]
    pub sharers: u32,
}
