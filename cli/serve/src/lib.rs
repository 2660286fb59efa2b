//! The GDB remote protocol over a FreeBSD kernel dump: unmodified debuggers inspect it as they
//! inspect a stopped machine.
//!
//! [`Served`] is the dump with its kernel, threads and modules. A [`Session`] is one debugger's
//! conversation: bytes in, bytes out. This crate opens no socket; `livecore serve` carries sessions
//! over Unix sockets, TCP, and standard input and output. A dump does not change, so sessions share
//! it without locks.
//!
//! | module     | answers                                                                     |
//! |------------|-----------------------------------------------------------------------------|
//! | `packet`   | bytes cut into packets                                                      |
//! | `session`  | each packet by its name: stops, threads, registers, refusals                |
//! | `memory`   | `m`, `x`, the physical mode of QEMU's packet, lldb's regions                |
//! | `query`    | `q…` packets, lldb's among them                                             |
//! | `object`   | `qXfer` documents and the files of `vFile`                                  |
//! | `check`    | what `monitor verify` runs                                                  |
//! | `monitor`  | `monitor` commands                                                          |
//! | `machine`  | what registers each processor has                                           |
//! | `target`   | [`Served`]                                                                  |
//! | `command`  | which paths and names a debugger's command may contain                      |
//!
//! The protocol is written here rather than taken from a crate. The one there is, gdbstub, answers
//! registers, memory and threads through types that know no unavailable register and no packet of
//! lldb's or QEMU's; the layer that would have to stand before it would have to cut packets, keep
//! the selected thread and answer nearly all of them itself.
//!
//! What is not known is never zero: an unknown register is `xx` to GDB and an error to lldb (which
//! would take `xx` for 0xcc), memory that is not in the dump is an error.

mod check;
pub mod command;
mod error;
mod machine;
mod memory;
mod monitor;
mod object;
mod packet;
mod query;
mod session;
mod target;

pub use check::{Check, Depth};
pub use error::ServeError;
pub use packet::{PACKET_MAX, frame};
pub use session::{Flow, Session};
pub use target::{ModuleFile, Served};
