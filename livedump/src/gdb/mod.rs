//! A guest through the gdb stub of its hypervisor: bhyve(8) `-G`, QEMU `-gdb`.
//!
//! Both stubs pause the guest when a client connects. bhyve resumes it when the connection ends, QEMU when the client
//! detaches. Memory is read by virtual address, with the page tables of a CPU: the kernel's variables by their
//! addresses, and physical memory through the direct map. QEMU also reads by physical address (`qemu.PhyMemMode`).
//!
//! The protocol is in gdb's manual, "GDB Remote Serial Protocol". What bhyve implements of it: FreeBSD
//! `usr.sbin/bhyve/gdb.c`.

mod client;
mod error;
mod guest;
mod packet;
mod registers;

pub use client::{Client, address};
pub use error::GdbError;
pub use guest::Guest;
