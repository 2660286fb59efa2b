//! The system: the only unsafe code of the workspace, and the only questions of which system it is.
//!
//! [`memrange`] is the ABI, [`mem_ioctl`] the door to the kernel that speaks it. What is above
//! compiles and is tested everywhere.

pub mod child;
pub mod descriptor;
pub mod hole;
pub mod ioccom;
pub mod mem_ioctl;
pub mod memrange;
pub mod pipe;
pub mod sandbox;
pub mod signals;
pub mod sysctl;
pub mod unnamed;
