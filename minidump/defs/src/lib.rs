//! Every format as constants: sizes, offsets, magic numbers, bits.
//!
//! A reader and an independent checker share these facts and no arithmetic. Every module names the
//! upstream header that its facts come from.
//!
//! | module        | what it describes                                                      |
//! |---------------|------------------------------------------------------------------------|
//! | [`kerneldump`]| the 512-byte `struct kerneldumpheader`, the containers, the key block  |
//! | [`minidump`]  | what the headers of all architectures share                            |
//! | [`architecture`] | one row for each architecture, and what is looked up by it          |
//! | [`amd64`] …   | one architecture: header, page tables, addresses, registers, its row   |
//! | [`paging`]    | page tables as data                                                    |
//! | [`elf`]       | ELF core files: file header, program headers, notes                    |
//! | [`msgbuf`]    | `struct msgbuf`, which lies behind its ring                            |
//! | [`registers`] | registers, as GDB names them                                           |
//! | [`pcb`]       | where they are in a `struct pcb`                                       |
//! | [`trapframe`] | where they are in a `struct trapframe`, and what makes one             |
//! | [`vm_page`]   | where a `struct vm_page` says that its page is not dumped             |
//! | [`prstatus`]  | where they are in the notes of ELF cores                               |
//! | [`pmap`]      | what in a `struct pmap` leads to page tables                           |
//! | [`seal`]      | what a sealed file carries beside its data                             |
//! | [`foreign`]   | files that are no dumps, known by their first bytes                    |
//! | [`text`]      | foreign text and bytes as they may be shown                            |

pub mod addr;
pub mod amd64;
pub mod architecture;
pub mod arm;
pub mod arm64;
pub mod elf;
mod field;
pub mod foreign;
pub mod i386;
pub mod kerneldump;
pub mod minidump;
pub mod mips;
pub mod msgbuf;
pub mod order;
pub mod paging;
pub mod pcb;
pub mod pmap;
pub mod powerpc64;
pub mod prstatus;
pub mod registers;
pub mod riscv;
mod rows;
pub mod seal;
pub mod text;
pub mod trapframe;
pub mod vm_page;

pub use addr::{PhysAddr, VirtAddr};
pub use architecture::Architecture;
pub use elf::ElfMachine;
pub use field::Field;
pub use order::ByteOrder;

use field::at;
