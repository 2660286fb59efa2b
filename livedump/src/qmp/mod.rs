//! A running QEMU guest, through its QMP socket.
//!
//! ```text
//!  client     commands and answers, with time limits
//!    └ guest      state, memory, pause, resume, dump to a file descriptor
//!        ├ mtree      the guest addresses of the backend's file
//!        ├ ram        that file as physical memory
//!        ├ registers  the CPUs in the monitor's output
//!        └ guard      a process that resumes the guest if this one is killed
//!  snapshot   pages copied while the guest runs, recopied if changed while it is paused
//! ```
//!
//! QEMU's output is not trusted: messages have a size limit, addresses are checked against the
//! file, and every answer has a time limit. docs/guests.md is the user's documentation.

mod client;
mod error;
mod guard;
mod guest;
mod mtree;
mod ram;
mod registers;
mod snapshot;

pub use client::{Client, Stop};
pub use error::QmpError;
pub use guard::{Guard, keep_watch};
pub use guest::{Guest, Paused, Status};
pub use ram::SharedRam;
pub use snapshot::{Changed, Snapshot};
