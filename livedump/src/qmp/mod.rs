//! A running guest of QEMU's, over its control socket (QMP).
//!
//! ```text
//!  client     one command, one answer, in time
//!    └ guest      is it running, where is its memory, pause, go on, dump to a descriptor
//!        ├ mtree      which guest address lies where in the backend's file
//!        ├ ram        that file as physical memory
//!        ├ registers  processors, as the monitor prints them
//!        └ guard      a process of its own that lets the guest go on when this one is gone
//!  snapshot   pages copied while the guest runs, made true while it is paused
//! ```
//!
//! What QEMU says is foreign: messages have a limit, addresses are checked against the file, and
//! every answer has a time in which it has to come. docs/guests.md is for people.

mod client;
pub mod error;
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
