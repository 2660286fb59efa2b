//! Memory images of all supported formats.
//!
//! [`open()`] recognizes the format of a file and provides its memory as
//! [`PhysMemory`](livecore_minidump::PhysMemory), and the CPUs' registers if the format has them.
//!
//! ```text
//!  path ── source ──▶ bytes at an offset (gzip and zstd through a stream)
//!            │
//!         open: a table of formats, probed in order
//!            ├── raw_layout, find, layout       raw memory: the addresses of file offsets
//!            ├── elf ── qemu, virtualbox, xen   ELF cores and their notes
//!            ├── flattened ── kdump             pages compressed one by one
//!            ├── lime ── avml                   ranges, each after its header
//!            └── vmware, bhyve                  memory in one file, its layout in another
//!            │
//!            ▼
//!         pieces (uncompressed), kdump and avml (decompressed on demand, with a cache)
//! ```
//!
//! Each format has one file with its definitions and its reader. Files are not trusted: a length is
//! compared with the file size before it is used for an allocation, and memory use is bounded by
//! [`Options`]. docs/images.md lists what was tested with files of which origin.

mod avml;
mod bhyve;
mod cache;
mod candidate;
mod cpu;
mod elf;
mod elf_core;
pub mod exercise;
mod extents;
mod find;
mod flattened;
mod format;
mod kdump;
pub mod layout;
mod lime;
mod memory_image;
mod open;
mod options;
mod pieces;
mod prstatus;
mod pt_regs;
mod qemu;
mod qemu_paging;
mod raw;
mod raw_layout;
mod raw_memory;
mod raw_pieces;
mod source;
mod virtualbox;
mod vmware;
mod vmware_cpu;
mod xen;

pub(crate) use cache::BlockCache;
pub use cpu::{Control, CpuState, Named, Registers, Segment, Segments, X86};
pub use format::Format;
pub use memory_image::Image;
pub use open::{open, open_bytes};
pub use options::Options;
pub use raw::RawImage;
pub(crate) use raw_layout::FOUR_GIB;
pub use raw_layout::RawLayout;
