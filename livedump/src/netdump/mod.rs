//! The server of netdump(4): receives dumps of panicking kernels over UDP.
//!
//! ```text
//!  sockets                 server                       store                 keep
//!  packets in, acks out ──▶ one state machine per ────▶ a file for each ────▶ a sealed dump, or
//!  (one thread)             client, without I/O         client                what is left of one
//! ```
//!
//! [`Server`] takes packets and the time, and calls a [`Sink`] to acknowledge, to write and to report
//! the end of a dump. It has no sockets, files or clock, so that tests and the fuzz target `netdump`
//! run it. Its memory is bounded: a fixed number of clients, and [`RANGES_MAX`] ranges for each.
//!
//! netdump(4) has no authentication. A host that can send packets with the address of a client can
//! disturb its dump. It cannot write outside of the directory, replace a file, or use more space than
//! the quota of that client.

mod batch;
mod counters;
mod host;
mod keep;
mod ranges;
mod server;
mod session;
mod sockets;
mod store;

pub use counters::Counters;
pub use host::Hosts;
pub use keep::{Check, Checking, KeepOptions, Kept, Outcome, Pages};
pub use ranges::{RANGES_MAX, Ranges};
pub use server::{Limits, Server, Sink};
pub use session::{Ended, Id, Peer, Refusal, Statistics, Why};
pub use sockets::{Events, Serving, Sockets, serve};
