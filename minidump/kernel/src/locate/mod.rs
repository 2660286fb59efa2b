//! A kernel found in physical memory by its file, and the machine as that kernel maps it.
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ port       where a kernel of the architecture may lie, and which variables prove it
//!     │ search     the place where the file's bytes are and its variables agree; text: its code
//!     │ identify   what memory holds instead, if the kernel is not there
//!     ▼
//!  Machine: its memory through the kernel's own page tables; DumpedMachine: that of a full dump
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
pub use image::{Image, Located};
pub use machine::Machine;
pub use port::{Port, Space, port_of};
pub use symbols::bitmap_follows_dump_avail;
