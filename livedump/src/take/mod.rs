//! Takes a minidump without the kernel's help: the dump that the kernel would have written, from a
//! machine's memory and the kernel's ELF file.
//!
//! [`plan_machine`] has these steps, one module each:
//!
//! ```text
//!  PhysMemory + KernelElf
//!     │ Machine    the kernel's location and its page tables: `livecore_kernel::locate`
//!     │ state      its variables, and its bitmap of pages
//!     │ mark       the pages that the kernel map reaches, and the page-table section
//!     │ filter     removes pages that the kernel would not dump, and missing ones
//!     │ sections   the sizes and offsets of all sections
//!     ▼
//!  Taken: a Plan, whose pages are read while they are written
//! ```
//!
//! The steps follow `minidumpsys` (FreeBSD `sys/*/*/minidump_machdep.c`); `port` has one file for
//! each architecture. Memory use is one bit for each page of `dump_avail`, and the page tables that
//! are not empty. The dump is not a consistent snapshot: the machine runs while its tables and
//! pages are read.
//!
//! [`run()`] takes and publishes a dump of memory, of a guest, or by the running kernel.

mod error;
mod filter;
mod guest;
mod live;
mod mark;
mod marks;
mod note;
mod observer;
mod options;
mod pages;
mod patch;
mod plan;
mod port;
mod registers;
mod run;
mod running;
mod sections;
mod settle;
mod state;
mod stub;
mod taken;
mod walk;

pub use error::TakeError;
pub use guest::{GuestSource, Pausing};
pub use live::{Estimate, Lacking, Live, LiveKernel};
pub use note::{Left, Note};
pub use observer::{NoObserver, Observer, Stage};
pub use options::RunOptions;
pub use plan::{PlanOptions, plan, plan_machine};
pub use run::{Done, Source, run};
pub use running::{bootfile, check_kernel, running};
pub use settle::settle;
pub use state::facts::Facts;
pub use taken::{ProvenanceRecord, Taken};
