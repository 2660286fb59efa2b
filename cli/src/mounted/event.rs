//! What happens while a dump is mounted.

/// What the threads that serve a file system report to the main thread.
pub(crate) enum Event {
    /// An error of a read.
    Error(String),
    /// The file system was unmounted, or serving it failed.
    Ended,
    /// A signal arrived.
    Signal,
}
