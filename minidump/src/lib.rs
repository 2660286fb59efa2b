//! FreeBSD kernel minidumps and their containers (not Microsoft's minidumps).
//!
//! A FreeBSD kernel that panics, or is asked to by `MEM_KERNELDUMP`, writes the pages that it uses
//! itself: a *minidump*. This page says what such a dump looks like, well enough to write another
//! reader; the modules under [`livecore_defs`] have every number with its upstream source.
//!
//! ```
//! use std::sync::Arc;
//!
//! use livecore_minidump::{
//!     Bitmap, Dump, DumpAvail, KernelMemory, MinidumpHeader, OpenOptions, PhysAddr, PhysMemory, Plan,
//!     PmapPages, VirtAddr,
//! };
//!
//! /// A machine's pages, each filled with its own number.
//! struct Machine;
//!
//! impl PhysMemory for Machine {
//!     fn ranges(&self) -> &[std::ops::Range<u64>] {
//!         &[0..0x1_0000]
//!     }
//!
//!     fn read(&self, at: PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
//!         for (page, number) in buf.chunks_mut(4096).zip(at.0 / 4096..) {
//!             page.fill(number as u8);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Write a dump of pages 1 and 5.
//! let header = MinidumpHeader {
//!     version: 3,
//!     kernbase: 0xffff_fe00_0000_0000,
//!     dmapbase: 0xffff_f800_0000_0000,
//!     dmapend: 0xffff_fc00_0000_0000,
//!     ..MinidumpHeader::default()
//! };
//! let ranges = DumpAvail::from_pairs(&[(0, 0x1_0000)], 4096)?;
//! let bitmap = Bitmap::from_words(vec![0b10_0010], ranges.bits())?;
//! let plan = Plan::new(header, b"booting".to_vec(), ranges, bitmap, PmapPages::new())?;
//! let payload = plan.payload(Arc::new(Machine));
//!
//! // Read it. `Dump::open("/var/crash/vmcore.0.zst", …)` does the same with a file.
//! let dump = Dump::from_source(Arc::new(payload), &OpenOptions::default())?;
//! let mut byte = [0];
//! dump.read_virt(VirtAddr(0xffff_f800_0000_5004), &mut byte)?;
//! assert_eq!(byte, [5]);
//! // Page 2 is a hole, not zeros.
//! assert!(dump.read_phys(PhysAddr(0x2000), &mut byte).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # The payload
//!
//! Six sections, one behind the other, each padded with zeros to the page size of the dump:
//!
//! | section      | begins at ([`Layout`]) | holds                                                |
//! |--------------|------------------------|------------------------------------------------------|
//! | header       | 0                      | [`MinidumpHeader`]: magic, version, all sizes        |
//! | `msgbuf`     | one page               | the message buffer's ring, as it lay in memory       |
//! | `dump_avail` | behind it              | the ranges of memory that a kernel may dump          |
//! | bitmap       | behind it              | one bit per page of these ranges                     |
//! | page tables  | behind it              | of the kernel map only; per architecture             |
//! | pages        | behind it              | those whose bit is set, by ascending bit             |
//!
//! The header comes first because it sizes all others, the pages last because their number follows
//! from the bitmap. A page that is not there is a *hole*: never the same as a page of zeros.
//!
//! **Bit and page.** With `dump_avail`, the bits of a range follow those of the range before it
//! ([`DumpAvail`]); in versions without that section bit `n` is physical page `n`. The page of a
//! bit lies as many pages into the data as bits below it are set ([`Bitmap::rank`]). Bits are
//! numbered from the least significant one of the kernel's `long`, in its byte order.
//!
//! **Message buffer.** The ring is not unwrapped. Behind it, in the same padded section, a crash
//! dump has `struct msgbuf`, which tells where the oldest byte is ([`MessageBuffer`]).
//!
//! # Addresses
//!
//! A kernel address lies in the direct map, where subtracting a base gives the physical address, or
//! in the kernel map, whose page tables are the fifth section:
//!
//! | architecture  | versions | the section holds                             | tested first |
//! |---------------|----------|-----------------------------------------------|--------------|
//! | amd64         | 1        | a PTE per page                                | kernel map   |
//! | amd64         | 2, 3     | a PDE per 2 MiB; page tables are dumped pages | kernel map   |
//! | arm64         | 1 to 3   | an L3 descriptor per page of 4 or 16 KiB      | direct map   |
//! | riscv64       | 1, 2     | an L3 entry per page                          | direct map   |
//! | i386          | 1, 2     | a PTE per page, of 4 or 8 bytes (PAE)         | kernel map   |
//! | arm           | 1, 2     | an L2 descriptor per page                     | kernel map   |
//! | powerpc64, le | 1, 2     | the whole hashed page table                   | direct map   |
//! | mips, 32, 64  | 1, 2     | an entry per page                             | fixed windows|
//!
//! `dump_avail` exists from version 3 on amd64 and 2 elsewhere; arm64's version 3 adds the page size.
//!
//! # Containers
//!
//! The payload, compressed or not, stands alone (*saved*, what savecore(8) leaves), before a header
//! at its page-rounded end (*raw*, what `MEM_KERNELDUMP` writes), between two headers at the end of
//! a *device*, or in frames before an index (*sealed*, ours; [`seal`]). The header is
//! [`KernelDumpHeader`], 512 bytes, big endian on every architecture. [`container`] tells which it is.
//!
//! # Full dumps
//!
//! With `debug.minidump=0` a kernel writes all of its memory instead, as an ELF core whose segments
//! lie at physical addresses: [`FullDump`], its module says how. [`AnyDump`] opens every kind; what
//! all have in common is [`Envelope`], and what debuggers ask of all is [`DumpMemory`].
//!
//! # The way through
//!
//! Reading: [`Dump`] (a [`KernelMemory`]), [`pages`] for all of its pages, [`convert()`] into any other
//! container and codec. Writing: [`Plan`] fixes every section and offset, [`Payload`] is its bytes at
//! any offset, [`convert::finish`] puts them under a header. Kernel files are [`KernelElf`]; with one,
//! the crate `livecore-kernel` tells threads, registers and stacks.
//!
//! Input is hostile: lengths are checked against the file before anything is allocated by them, a
//! walk over page tables is bounded by its caller, and whatever is wrong is an [`Error`] with its
//! region, offset, what was found and what was expected.

pub mod bitmap;
pub mod bitmap_section;
pub mod container;
pub mod convert;
mod copied;
pub mod dump;
pub mod dump_avail;
pub mod elf;
pub mod error;
pub mod full;
pub mod header;
pub mod info;
pub mod kerneldump;
pub mod layout;
pub mod machine_dir;
pub mod memory;
pub mod mmu;
pub mod msgbuf;
pub mod pages;
pub mod payload;
pub mod phys;
pub mod plan;
pub mod provenance;
pub mod salvage;
pub mod seal;

pub use bitmap::Bitmap;
pub use container::Container;
pub use convert::convert;
pub use dump::{AnyDump, Dump, Envelope, HeaderOrigin, OpenOptions, Shortness, Warning};
pub use dump_avail::DumpAvail;
pub use elf::KernelElf;
pub use error::Error;
pub use full::FullDump;
pub use header::MinidumpHeader;
pub use kerneldump::KernelDumpHeader;
pub use layout::Layout;
pub use livecore_defs::{Architecture, ByteOrder, ElfMachine, PhysAddr, VirtAddr};
pub use memory::{Address, DumpMemory, KernelMemory, ReadError};
pub use mmu::{Mapping, Protection};
pub use msgbuf::MessageBuffer;
pub use pages::{Page, Pages};
pub use payload::Payload;
pub use phys::{PhysMemory, PhysMemoryMut};
pub use plan::{Plan, PmapPages};
pub use provenance::Provenance;
pub use seal::{SealRecord, Unproven};
