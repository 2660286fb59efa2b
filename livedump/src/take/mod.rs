//! A minidump from outside of the kernel: what the kernel of a machine would have written, made
//! from the machine's memory and the kernel's ELF file.
//!
//! [`plan_machine`] takes these steps, one module each:
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ Machine    where the kernel lies, and how it maps: `livecore_kernel::locate`
//!     │ state      its variables, and the bitmap of pages that it keeps
//!     │ mark       what the kernel map reaches: pages, and the page-table section
//!     │ filter     without what the kernel would not dump, and what is not there
//!     │ sections   the sizes and offsets of all sections
//!     ▼
//!  Taken: a Plan, whose pages are read when they are written
//! ```
//!
//! The steps are those of `minidumpsys` (FreeBSD `sys/*/*/minidump_machdep.c`); what differs from
//! architecture to architecture is one file each in `port`. Memory is one bit per page of
//! `dump_avail`, and the page tables that are not empty. Nothing is consistent: the machine runs on
//! while its tables are read, and a page is what it is when it is written.
//!
//! [`run()`] takes a dump from beginning to end: of memory, of a guest, by the running kernel.

pub mod error;
mod filter;
pub mod guest;
pub mod live;
mod mark;
mod marks;
pub mod observer;
pub mod options;
mod pages;
mod patch;
mod plan;
mod port;
mod registers;
pub mod run;
pub mod running;
mod sections;
mod settle;
mod state;
mod taken;
mod walk;

pub use error::TakeError;
pub use guest::{GuestSource, Pausing};
pub use live::LiveKernel;
pub use observer::{NoObserver, Observer, Stage};
pub use options::RunOptions;
pub use plan::{PlanOptions, plan, plan_machine};
pub use run::{Done, Source, run};
pub use running::running;
pub use settle::settle;
pub use state::facts::Facts;
pub use taken::{Taken, Told};
