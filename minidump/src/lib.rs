//! FreeBSD kernel minidumps and their containers (not Microsoft's minidumps).

pub mod addr;
pub mod arch;
pub mod bitmap;
pub mod bitmap_section;
pub mod container;
pub mod convert;
pub mod defs;
pub mod dump;
pub mod dump_avail;
pub mod elf;
pub mod error;
pub mod header;
pub mod info;
pub mod kerneldump;
pub mod layout;
pub mod memory;
pub mod order;
pub mod payload;
pub mod plan;
pub mod seal;

pub use addr::{PhysAddr, VirtAddr};
pub use arch::Arch;
pub use bitmap::Bitmap;
pub use container::Container;
pub use dump::{Dump, HeaderOrigin, OpenOptions, Shortness, Warning};
pub use dump_avail::DumpAvail;
pub use elf::KernelElf;
pub use error::Error;
pub use header::MinidumpHeader;
pub use kerneldump::KernelDumpHeader;
pub use layout::Layout;
pub use memory::{KernelMemory, ReadError};
pub use order::ByteOrder;
pub use payload::Payload;
pub use plan::{PageSource, Plan, PmapPages};
pub use seal::SealRecord;
