//! What a kernel's symbols tell of its memory: variables, processes, threads, registers, stacks.
//!
//! Works over any [`KernelMemory`], a dump or a machine. The symbol table is enough: FreeBSD
//! exports the offsets that a debugger needs as integers. What it does not export (wait messages,
//! parents) [`Types`] has from a kernel's type information, where there is any.
//!
//! ```text
//! Kernel::processes ─ Process ─ Thread ─ Kernel::registers ─ Registers ─ Kernel::stack ─ Frame
//! ```

mod activity;
pub mod agree;
pub mod core_notes;
mod ctf;
pub mod debug_file;
mod dump;
mod dwarf;
pub mod error;
pub mod frame;
pub mod kernel;
pub mod kernel_search;
mod lists;
mod loaded;
pub mod locate;
pub mod location;
mod mips;
pub mod missing;
pub mod module;
mod module_file;
mod modules;
mod offsets;
pub mod pair;
mod pair_error;
mod pcb;
pub mod process;
pub mod registers;
mod section;
pub mod sections;
pub mod shared;
pub mod stack;
pub mod state;
mod stops;
mod strings;
pub mod structure;
pub mod table;
pub mod thread;
pub mod trap;
pub mod types;
mod value;

pub use dump::Dump;
pub use error::KernelError;
pub use frame::Frame;
pub use kernel::{Functions, Kernel};
pub use kernel_search::KernelSearch;
pub use location::{Location, LocationError};
pub use missing::Missing;
pub use module::{Module, Modules};
pub use pair::Pair;
pub use pair_error::{PairError, Rejected, Tried};
pub use process::{Process, Processes};
pub use registers::Registers;
pub use shared::Shared;
pub use state::State;
pub use structure::Member;
pub use table::ProcessTable;
pub use thread::{Context, Thread};
pub use trap::Trap;
pub use types::{STRUCTURES, Types};
pub use value::Value;
