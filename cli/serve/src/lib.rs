//! A GDB remote protocol server for a FreeBSD kernel dump. gdb and lldb inspect the dump like a
//! stopped machine.
//!
//! [`Served`] is the dump with its kernel, threads and modules. A [`Session`] serves one debugger:
//! it gets bytes and returns bytes. This crate opens no socket; `livecore serve` connects sessions
//! to Unix sockets, TCP, or standard input and output. A dump does not change, so sessions share it
//! without locks.
//!
//! | module     | contents                                                                    |
//! |------------|-----------------------------------------------------------------------------|
//! | `packet`   | the packet format                                                           |
//! | `session`  | packets about threads, registers, stops; refusals                           |
//! | `memory`   | `m`, `x`, physical addresses as in QEMU's packet, lldb's regions            |
//! | `query`    | `q…` packets, those of lldb included                                        |
//! | `object`   | `qXfer` documents and the files of `vFile`                                  |
//! | `check`    | the check that `monitor verify` runs                                        |
//! | `monitor`  | `monitor` commands                                                          |
//! | `machine`  | the registers of each processor                                             |
//! | `target`   | [`Served`]                                                                  |
//! | `command`  | quoting for commands of gdb and lldb                                        |
//!
//! The protocol is implemented here. The crate gdbstub has types for registers, memory and threads
//! that support neither unavailable registers nor the packets of lldb and QEMU; a layer above it
//! would have to parse packets, track the selected thread and answer most packets itself.
//!
//! An unknown value is never reported as zero. An unknown register is `xx` for GDB and an error for
//! lldb (which reads `xx` as 0xcc). Memory that is not in the dump is an error.

mod check;
pub mod command;
mod error;
mod greeting;
mod machine;
mod memory;
mod monitor;
mod object;
mod packet;
mod problem;
mod query;
mod session;
mod target;

pub use check::{Check, Depth};
pub use error::ServeError;
pub use greeting::Greeting;
pub use packet::{PACKET_MAX, frame};
pub use problem::Problem;
pub use session::{Flow, REFUSED, Session};
pub use target::{ModuleFile, Served};
