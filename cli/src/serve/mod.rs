//! A dump behind the GDB remote protocol: unmodified debuggers look into it as into a stopped
//! machine.
//!
//! [`Served`] is what is looked at: the dump, its kernel, threads and modules. A [`Session`] is one
//! debugger's conversation: bytes in, bytes out, no socket; [`transport`] carries it over TCP, a
//! Unix socket, or standard input and output. A dump does not change, so sessions share it without
//! locks, and several debuggers are served at once.
//!
//! | module     | answers                                                                     |
//! |------------|-----------------------------------------------------------------------------|
//! | `packet`   | bytes cut into packets                                                      |
//! | `session`  | each packet by its name: stops, threads, registers, refusals                |
//! | `memory`   | `m`, `x`, the physical mode of QEMU's packet, lldb's regions                |
//! | `query`    | `q…` packets, lldb's among them                                             |
//! | `object`   | `qXfer` documents and the files of `vFile`                                  |
//! | `monitor`  | `monitor` commands                                                          |
//! | `machine`  | what registers each processor has                                           |
//! | `target`   | [`Served`]                                                                  |
//! | `command`  | what may stand in a command for a debugger                                  |
//!
//! The protocol is written here rather than taken from a crate. The one there is, gdbstub, answers
//! registers, memory and threads through types that know no unavailable register and no packet of
//! lldb's or QEMU's; the layer that would have to stand before it would have to cut packets, keep
//! the selected thread and answer nearly all of them itself.
//!
//! What is not known is never zero: an unknown register is `xx` to GDB and an error to lldb (which
//! would take `xx` for 0xcc), memory that is not in the dump is an error.

pub(crate) mod command;
pub mod fuzz;
mod machine;
mod memory;
mod monitor;
mod object;
mod packet;
mod query;
mod session;
mod target;
pub mod transport;

pub use packet::PACKET_MAX;
pub use session::{Flow, Session};
pub use target::{ModuleFile, Served};
