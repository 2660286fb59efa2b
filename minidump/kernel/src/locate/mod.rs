//! Locates a kernel in physical memory with its file, and translates addresses with its page tables.
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ port       possible load addresses of an architecture, and the variables that confirm one
//!     │ search     the load address where contents and variables match; text: compares code
//!     │ identify   the FreeBSD kernel in memory, if it is not that of the file
//!     ▼
//!  Machine: memory with the kernel's address translation; DumpedMachine: that of a full dump
//! ```

mod dumped;
mod error;
mod identify;
mod image;
mod machine;
mod port;
mod search;
mod symbols;
mod text;

pub use dumped::DumpedMachine;
pub use error::LocateError;
pub use identify::{Directories, Findings, VersionString, identify};
pub use image::{KernelImage, Located};
pub use machine::Machine;
pub use port::{AddressSpace, Port, port_of};
pub use symbols::bitmap_follows_dump_avail;
