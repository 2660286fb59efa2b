//! FreeBSD kernel minidumps and their containers (not Microsoft's minidumps).

pub mod addr;
pub mod bitmap;
pub mod defs;
pub mod memory;

pub use addr::{PhysAddr, VirtAddr};
pub use bitmap::Bitmap;
pub use memory::{KernelMemory, ReadError};
