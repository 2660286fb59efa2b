//! A guest through the gdb stub of its hypervisor: bhyve(8) `-G`, QEMU `-gdb`.
//!
//! Both stubs pause the guest when a client connects. bhyve resumes it when the connection ends, QEMU when the client
//! detaches. Stubs read memory by virtual address, with the page tables of a CPU: Livecore reads kernel variables at
//! their addresses, and physical memory through the direct map. QEMU also reads by physical address (`qemu.PhyMemMode`).
//!
//! gdb's manual describes the protocol in "GDB Remote Serial Protocol". FreeBSD `usr.sbin/bhyve/gdb.c` implements the
//! packets that bhyve supports.

mod client;
mod error;
mod guest;
mod packet;
mod registers;

pub use client::{Client, address};
pub use error::GdbError;
pub use guest::Guest;
