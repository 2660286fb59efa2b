//! Publishes dumps: a file gets its final name only when it is complete and synced.
//!
//! ```text
//!  Destination::parse("-o")        a directory, a file, a special file, standard output
//!        │ begin
//!  Pending (impl Write)            a file of mode 0600 in the target's directory, without a name
//!        │ publish
//!  Published                       livecore.N[.gz|.zst], info.N, bounds, livecore.last*, or the names of
//!                                  savecore(8): vmcore.N, vmcore_encrypted.N and key.N, textdump.tar.N
//! ```
//!
//! The order is what makes it safe. Everything is written and synced first, in files without names
//! (Linux's O_TMPFILE) or with temporary ones (livecore.tmp.XXXXXX): a full disk is found there. Then the names change, nothing is written any more, and the
//! directory is synced. `bounds` moves on only when the dump has its name.
//!
//! A temporary file is removed when its owner is dropped (an error, a panic) and, where
//! [`watch_signals`] was called, by the signals that it lists. What SIGKILL leaves, the next run in
//! that directory removes: a temporary file that is in use is locked (flock(2)).

mod cleanup;
mod destination;
mod directory;
pub(crate) mod error;
pub mod free;
pub mod info;
pub mod links;
mod notice;
mod numbers;
mod options;
mod output;
mod pending;
mod private;
mod remove;
pub mod sparse;
mod special;
mod stem;
pub(crate) mod temporary;
mod watcher;

pub use cleanup::{Passing, RunningProgram, watch_signals};
pub use destination::Destination;
pub use directory::Directory;
pub use error::{Planted, PublishError, is_full};
pub use notice::Notice;
pub use options::Options;
pub use output::{Output, Sink, WriteError};
pub use pending::{Pending, Published};
pub use private::PrivateDirectory;
pub use remove::remove_dump;
pub use stem::Stem;
pub use watcher::watch_over;
