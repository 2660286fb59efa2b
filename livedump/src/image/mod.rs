//! Images of a machine's memory, in the forms in which they are kept.
//!
//! [`open()`] finds out what a file is and gives its memory, whatever the format, as
//! [`PhysMemory`](livecore_minidump::PhysMemory); and the registers of the processors where the format has
//! them.
//!
//! ```text
//!  path ── source ──▶ bytes at an offset (gzip, zstd: through their stream)
//!            │
//!         open: a table of formats, probed in turn
//!            ├── raw_layout, find, layout       raw RAM: which address an offset is
//!            ├── elf ── qemu, virtualbox, xen   ELF cores and their notes
//!            ├── flattened ── kdump             pages compressed one by one
//!            ├── lime ── avml                   ranges, each behind its header
//!            └── vmware, bhyve                  memory in one file, its layout in another
//!            │
//!            ▼
//!         pieces (as they are), kdump and avml (decoded on demand, cache)
//! ```
//!
//! One file for each format, definitions and reader. Files are hostile: a length is compared with
//! the file before anything is allocated, and what is held in memory is bounded by [`Options`].
//! docs/images.md says what was tested with whose files.

mod avml;
mod bhyve;
mod cache;
mod candidate;
pub mod cpu;
mod elf;
mod elf_core;
pub mod exercise;
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
pub mod raw;
mod raw_layout;
mod raw_memory;
mod raw_pieces;
mod source;
mod virtualbox;
mod vmware;
mod vmware_cpu;
mod xen;

pub use cpu::{Arm64, Control, CpuState, Registers, Riscv64, Segment, Segments, X86};
pub use format::Format;
pub use layout::Opened;
pub use memory_image::Image;
pub use open::{open, open_bytes};
pub use options::Options;
pub use raw::RawImage;
pub(crate) use raw_layout::FOUR_GIB;
pub use raw_layout::RawLayout;
