//! A running QEMU guest, through its QMP socket.
//!
//! ```text
//!  address    where QEMU listens
//!    └ client     commands, answers and events, with time limits
//!    └ guest      state, memory, pause, resume, dump to a file descriptor
//!        ├ mtree      the guest addresses of the backend's file
//!        ├ ram        that file as physical memory
//!        ├ registers  the CPUs in the monitor's output
//!        ├ crash      waits until QEMU has paused a guest that crashed
//!        └ guard      a process that resumes the guest if this one is killed
//!  snapshot   pages copied while the guest runs, recopied if changed while it is paused
//! ```
//!
//! QEMU's output is not trusted: messages have a size limit, addresses are checked against the
//! file, and every answer has a time limit. docs/guests.md is the user's documentation.

mod address;
mod client;
mod crash;
mod error;
mod guard;
mod guest;
mod mtree;
mod ram;
mod registers;
mod snapshot;

pub use address::Address;
pub use client::{Client, Stop};
pub use crash::Cause;
pub use error::QmpError;
pub use guard::{Guard, keep_watch};
pub use guest::{Guest, Paused, Status};
pub use ram::SharedRam;
pub use snapshot::{Changed, Snapshot};
