//! Operating system interfaces: the only unsafe code of the workspace, and the only conditional
//! compilation by system.
//!
//! [`memrange`] is the ABI, [`mem_ioctl`] issues the requests. Code above this module compiles and
//! is tested on every system.

pub(crate) mod child;
pub mod descriptor;
pub mod disk;
pub mod fuse;
pub(crate) mod hole;
mod ioccom;
pub mod mem_ioctl;
pub mod memrange;
pub mod pipe;
pub mod sandbox;
pub mod signals;
pub mod sysctl;
pub mod syslog;
pub mod unnamed;
