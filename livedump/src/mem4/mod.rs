//! mem(4): one trait for the devices `/dev/mem` and `/dev/kmem`.
//!
//! ```text
//!              MemDevice
//!             ╱         ╲
//!    emulated             FreeBsd          the same results, the same errors
//!    a machine's memory   two open devices
//!    and its state        over sys::MemIoctl
//! ```
//!
//! FreeBSD has one driver for both devices: every request works on either of them, and with read
//! access only. `docs/mem4.md` describes the manual's guarantees, and where the driver differs.

mod access;
mod device;
mod error;
mod freebsd;
pub mod range;
mod request;

pub use access::Access;
pub use device::{Device, Extracted, MemDevice};
pub use error::MemError;
pub(crate) use freebsd::dump_error;
pub use freebsd::{DEV_KMEM, DEV_MEM, FreeBsd};
pub use request::DumpRequest;
