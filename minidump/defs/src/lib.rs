//! All formats as constants: sizes, offsets, magic numbers, bits.
//!
//! The reader and the independent verifier share these definitions and no arithmetic. Every module
//! names the upstream header of its facts. Addresses are [`VirtAddr`] or [`PhysAddr`]; sizes, offsets
//! and masks are integers.
//!
//! | module           | content                                                            |
//! |------------------|--------------------------------------------------------------------|
//! | [`kerneldump`]   | `struct kerneldumpheader`, containers, the key block               |
//! | [`minidump`]     | the common part of minidump headers                                |
//! | [`Architecture`] | the definitions of one architecture                                |
//! | [`amd64`] …      | one architecture each: header, page tables, addresses, registers   |
//! | [`paging`]       | page-table formats as data                                         |
//! | [`elf`]          | ELF core files: file header, program headers, notes                |
//! | [`msgbuf`]       | `struct msgbuf`                                                    |
//! | [`registers`]    | registers, by GDB's names                                          |
//! | [`pcb`]          | registers in `struct pcb`                                          |
//! | [`trapframe`]    | registers in `struct trapframe`, and trap entry points             |
//! | [`prstatus`]     | registers in the notes of ELF cores                                |
//! | [`cpu`]          | registers of a CPU in memory images and QEMU's monitor             |
//! | [`lock`]         | locks, their owner words, and waiting threads                      |
//! | [`statistics`]   | counters, interrupts, devices and files                            |
//! | [`vm_page`]      | `struct vm_page` and its flag for pages not to dump                |
//! | [`pmap`]         | the page-table root in `struct pmap`                               |
//! | [`disk`]         | partition tables: MBR, GPT, BSD labels                             |
//! | [`seal`]         | the attachment of sealed files                                     |
//! | [`netdump`]      | messages of netdump(4)                                             |
//! | [`foreign`]      | files that are not dumps, by their first bytes                     |
//! | [`text`]         | escaping of untrusted text and bytes                               |

mod addr;
pub mod amd64;
mod architecture;
pub mod arm;
pub mod arm64;
pub mod cpu;
pub mod debuggers;
pub mod disk;
pub mod elf;
mod elf_machine;
mod field;
pub mod foreign;
pub mod i386;
pub mod kerneldump;
pub mod lock;
pub mod minidump;
pub mod mips;
pub mod msgbuf;
pub mod netdump;
mod order;
pub mod paging;
pub mod pcb;
pub mod pmap;
pub mod powerpc64;
pub mod prstatus;
pub mod registers;
pub mod riscv;
mod rows;
pub mod seal;
pub mod statistics;
pub mod text;
pub mod textdump;
pub mod trapframe;
pub mod vm_page;

pub use addr::{PhysAddr, VirtAddr};
pub use architecture::{Architecture, Chain, FrameCode, FullDelta, MachineArch};
pub use elf_machine::ElfMachine;
pub use field::Field;
pub use order::ByteOrder;

use field::at;
