//! FreeBSD kernel minidumps and their containers (not Microsoft's minidumps).
//!
//! A FreeBSD kernel that panics, or receives the ioctl `MEM_KERNELDUMP`, writes the pages that the
//! kernel uses: a *minidump*. This page specifies the format. The modules of [`livecore_defs`] have
//! every constant with its upstream source.
//!
//! ```
//! use std::sync::Arc;
//!
//! use livecore_minidump::{
//!     Bitmap, Dump, DumpAvail, KernelMemory, MinidumpHeader, OpenOptions, PhysAddr, PhysMemory, Plan,
//!     PmapPages, VirtAddr,
//! };
//!
//! /// A machine. Each page is filled with its page number.
//! struct Machine;
//!
//! impl PhysMemory for Machine {
//!     fn ranges(&self) -> &[std::ops::Range<PhysAddr>] {
//!         &[PhysAddr(0)..PhysAddr(0x1_0000)]
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
//! let ranges = DumpAvail::from_ranges(Machine.ranges(), 4096)?;
//! let bitmap = Bitmap::from_words(vec![0b10_0010], ranges.bits())?;
//! let plan = Plan::new(header, b"booting".to_vec(), ranges, bitmap, PmapPages::new())?;
//! let payload = plan.payload(Arc::new(Machine));
//!
//! // Read it. `Dump::open("/var/crash/vmcore.0.zst", …)` opens a file.
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
//! The payload has six sections, each padded with zeros to the page size of the dump:
//!
//! | section      | offset ([`Layout`])    | contents                                             |
//! |--------------|------------------------|------------------------------------------------------|
//! | header       | 0                      | [`MinidumpHeader`]: magic, version, all sizes        |
//! | `msgbuf`     | one page               | the ring of the message buffer                       |
//! | `dump_avail` | after `msgbuf`         | the ranges of memory that the kernel can dump        |
//! | bitmap       | after `dump_avail`     | one bit per page of these ranges                     |
//! | page tables  | after the bitmap       | of the kernel map only; depends on the architecture  |
//! | pages        | after the page tables  | the pages whose bits are set, in order of the bits   |
//!
//! The header is first because it has the sizes of the other sections. The pages are last because
//! the bitmap determines their number. A page that is not in the dump is a *hole*. A hole is
//! different from a page of zeros.
//!
//! **Bits and pages.** With `dump_avail`, the bits of a range follow those of the previous range
//! ([`DumpAvail`]). In versions without `dump_avail`, bit `n` is physical page `n`. The index of a
//! page in the last section is the number of set bits below its bit ([`Bitmap::rank`]). Bits are
//! numbered from the least significant bit of the kernel's `long`, in its byte order.
//!
//! **Message buffer.** The ring is stored as it was in memory. In a crash dump, the same section also
//! has `struct msgbuf`, which gives the position of the oldest byte ([`MessageBuffer`]).
//!
//! # Addresses
//!
//! A kernel address is either in the direct map, where the physical address is the difference to a
//! base address, or in the kernel map, whose page tables are the fifth section:
//!
//! | architecture  | versions | contents of the section                       | tested first |
//! |---------------|----------|-----------------------------------------------|--------------|
//! | amd64         | 1        | a PTE per page                                | kernel map   |
//! | amd64         | 2, 3     | a PDE per 2 MiB; page tables are dumped pages | kernel map   |
//! | arm64         | 1 to 3   | an L3 descriptor per page of 4 or 16 KiB      | direct map   |
//! | riscv64       | 1, 2     | an L3 entry per page                          | direct map   |
//! | i386          | 1, 2     | a PTE per page, of 4 or 8 bytes (PAE)         | kernel map   |
//! | arm           | 1, 2     | an L2 descriptor per page                     | kernel map   |
//! | powerpc64, le | 1, 2     | the whole hashed page table, or the root of   | direct map   |
//! |               |          | radix tables; the others are dumped pages     |              |
//! | mips, 32, 64  | 1, 2     | an entry per page                             | fixed windows|
//!
//! `dump_avail` exists since version 3 on amd64 and since version 2 on other architectures. Version 3
//! of arm64 adds the page size.
//!
//! # Containers
//!
//! A container has the payload, compressed or not:
//!
//! * *saved*: only the payload, as savecore(8) writes it;
//! * *raw*: the payload, padded to a page, and a header, as `MEM_KERNELDUMP` writes it;
//! * *device*: the payload between two headers, at the end of a dump device;
//! * *sealed*: the payload in frames, and an index; the format of livecore ([`SealRecord`]).
//!
//! The header is [`KernelDumpHeader`]: 512 bytes, big-endian on every architecture.
//! [`Envelope::container`] is the container of an open dump.
//!
//! # Full dumps
//!
//! With `debug.minidump=0`, a kernel writes all of its memory as an ELF core whose segments have
//! physical addresses: [`FullDump`]. [`AnyDump`] opens dumps of every kind. [`Envelope`] has the
//! properties that all kinds have, and [`DumpMemory`] is the interface for debuggers.
//!
//! # Using the library
//!
//! To read a dump, use [`Dump`] (a [`KernelMemory`]); [`Dump::pages`] iterates over its pages; [`convert()`](convert::convert)
//! writes it in another container or codec. To write a dump, use [`Plan`], which fixes all sections
//! and offsets; [`Payload`] has its bytes; [`convert::finish`] adds a header. Kernel files are
//! [`KernelElf`]. With a kernel file, the crate `livecore-kernel` reads threads, registers and
//! backtraces.
//!
//! Input is untrusted: lengths are checked against the file before memory is allocated, and callers
//! limit walks of page tables. An [`Error`] about input has the region, the offset, what was found and
//! what was expected.

mod bitmap;
mod bitmap_section;
mod container;
pub mod convert;
mod copied;
mod dump;
mod dump_avail;
pub mod dump_device;
pub mod elf;
pub mod encryption;
mod error;
pub mod facts;
mod full;
mod header;
pub mod info;
mod kerneldump;
mod layout;
pub mod machine_dir;
mod memory;
pub mod mmu;
mod msgbuf;
pub mod pack;
mod pages;
pub mod partitions;
mod payload;
mod phys;
mod plan;
pub mod provenance;
pub mod receipt;
pub mod reduced;
pub mod salvage;
mod seal;
mod tar_block;
pub mod textdump;

pub use bitmap::{Bitmap, TooManyPages};
pub use container::Container;
pub use dump::{AnyDump, Dump, Envelope, HeaderOrigin, OpenOptions, Shortness, Warning};
pub use dump_avail::{AvailRange, DumpAvail};
pub use elf::kernel::KernelElf;
pub use error::Error;
pub use full::{FullDump, FullMemory, MemoryRange};
pub use header::MinidumpHeader;
pub use kerneldump::{KernelDumpHeader, Magic};
pub use layout::Layout;
pub use livecore_defs::{Architecture, ByteOrder, ElfMachine, PhysAddr, VirtAddr};
pub use memory::{Address, DirectMap, DumpMemory, KernelMemory, PageRun, ReadError};
pub use msgbuf::{MessageBuffer, Msgbuf, RingOrigin};
pub use pages::{KernelAddress, Page, Pages};
pub use payload::Payload;
pub use phys::{PhysMemory, PhysMemoryMut, check_ranges, first_outside};
pub use plan::{Plan, PmapPages};
pub use seal::{SealRecord, Unproven};
