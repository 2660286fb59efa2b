//! Reads the state of a FreeBSD kernel from its memory: variables, processes, threads, registers
//! and backtraces.
//!
//! The memory is any [`KernelMemory`](livecore_minidump::KernelMemory): a dump or a running
//! machine. A symbol table is sufficient, because FreeBSD exports the structure offsets that a
//! debugger needs as integer variables. Members without an exported offset (wait messages, parents)
//! come from the kernel's type information, if present; see [`Types`].
//!
//! ```text
//! Dump ─ Kernel::processes ─ Process ─ Thread ─ Kernel::registers ─ Registers ─ Kernel::stack ─ Frame
//! ```
//!
//! # Examples
//!
//! This prints the backtraces of all threads of a dump and reads a kernel variable.
//! `examples/backtraces.rs` is a complete program.
//!
//! ```
//! # use livecore_compress::ReadAt;
//! # use livecore_livedump::take::{PlanOptions, plan};
//! use livecore_kernel::Dump;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let text = "seed = 7\n[memory]\nsize = \"16 MiB\"\n[state]\npanic = \"page fault\"\n";
//! # let machine = livecore_synth::build(&livecore_synth::Description::parse(text)?)?;
//! # let elf = livecore_minidump::KernelElf::from_bytes(machine.kernel().to_vec())?;
//! # let payload = plan(machine.memory(), &elf, &PlanOptions::default())?.into_payload();
//! # let mut bytes = vec![0; payload.size()? as usize];
//! # payload.read_exact_at(&mut bytes, 0)?;
//! # let crash = tempfile::tempdir()?;
//! # let vmcore = crash.path().join("vmcore.0");
//! # std::fs::write(&vmcore, bytes)?;
//! # std::fs::write(crash.path().join("kernel"), machine.kernel())?;
//! let dump = Dump::open(vmcore)?; // any kind, container and codec
//! let kernel = dump.find_kernel()?; // or dump.kernel("/boot/kernel/kernel")?
//! for thread in kernel.threads()? {
//!     println!("{} {}", thread.tid, thread.name);
//!     for frame in kernel.backtrace(&thread)? {
//!         println!("  {frame}");
//!     }
//! }
//! let hz: i32 = kernel.read_value("hz")?;
//! # assert_eq!(hz, 1000);
//! # Ok(())
//! # }
//! ```

mod activity;
mod agree;
mod build_id;
mod cfi;
mod code;
mod core_notes;
mod ctf;
mod debug_file;
mod debug_info;
mod dump;
mod dwarf;
mod dwarf_file;
mod error;
mod expand;
mod frame;
mod free_pages;
pub mod isf;
mod kernel;
mod kernel_search;
mod lists;
mod loaded;
pub mod locate;
mod location;
mod locks;
mod mips;
mod missing;
mod module;
mod module_file;
mod modules;
mod offsets;
mod pair;
mod pair_error;
mod pcb;
mod process;
mod registers;
mod section;
mod sections;
mod shared;
mod signature;
mod source_line;
mod stack;
mod state;
mod stops;
mod strings;
mod structure;
mod table;
mod thread;
mod trap;
mod types;
mod unwind;
mod value;
pub mod verifier;
mod vm_pages;

pub use agree::Agreement;
pub use build_id::build_id_in_memory;
pub use core_notes::thread_notes;
pub use debug_file::debug_file;
pub use dump::Dump;
pub use error::KernelError;
pub use frame::{End, FoundBy, Frame};
pub use free_pages::free_pages;
pub use kernel::{Functions, Kernel};
pub use kernel_search::{KernelSearch, SearchResult};
pub use location::{Location, LocationError, parse_address, parse_number, parse_phys};
pub use locks::{Deadlock, LOCK_STRUCTURES, Lock, LockClass, Locks, Owner, Queue, Wait};
pub use missing::Missing;
pub use module::{Module, Modules, NotLoaded, PlacedSection};
pub use pair::Pair;
pub use pair_error::{PairError, Rejected, Tried};
pub use process::{Process, Processes};
pub use registers::Registers;
pub use sections::{Cell, SECTION_STRUCTURES, SECTIONS, Section, SectionKind};
pub use shared::Shared;
pub use signature::{Basis, Signature};
pub use source_line::SourceLine;
pub use state::State;
pub use structure::{Member, Structure, TypeSource};
pub use table::ProcessTable;
pub use thread::{Context, Thread};
pub use trap::Trap;
pub use types::{STRUCTURES, Types};
pub use value::Value;
pub use vm_pages::{NoVmPages, VmPages};
