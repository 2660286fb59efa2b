//! mem(4): the devices `/dev/mem` and `/dev/kmem` as one trait.
//!
//! ```text
//!              MemDevice
//!             ╱         ╲
//!    emulated             FreeBsd          the same results, the same errors
//!    a machine's memory   two open devices
//!    and its state        over sys::MemIoctl
//! ```
//!
//! Both devices of FreeBSD are one driver: every request works on either, and on one that is open
//! for reading only. What the manual promises, and where the driver differs, is in `docs/mem4.md`.

pub mod access;
pub mod device;
pub mod error;
pub mod freebsd;
pub mod range;
pub mod request;

pub use access::Access;
pub use device::{Device, Extracted, MemDevice};
pub use error::MemError;
pub use freebsd::FreeBsd;
pub use range::MemRange;
pub use request::DumpRequest;
