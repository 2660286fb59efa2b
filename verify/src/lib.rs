//! Checks FreeBSD kernel dumps by re-deriving everything that they claim.
//!
//! The verifier stands apart from reader and producer. It shares their definitions (structs,
//! constants, sizes) and none of their arithmetic: headers, lengths, offsets, bitmap, rank and the
//! seal are read and computed here again, so that an error in one place is not an error in both.
//! A kernel's symbols and types come from the caller, through [`KernelFacts`].
//!
//! A *rule* ([`Rule`]) is a claim that every sound dump fulfils; [`rules::all`] is the table of
//! them. [`verify()`] applies them to one dump and gives a [`Report`]: facts, findings, and a
//! verdict with the exit code of the whole program. A report has one shape; [`render`] writes it
//! for people and for machines. `docs/verify.md` says what each rule and format is about.
//!
//! | module        | what it checks                                                      |
//! |---------------|---------------------------------------------------------------------|
//! | `container`   | where header, payload and padding lie                               |
//! | `kdh`         | `struct kerneldumpheader`                                           |
//! | `info`        | the `info.N` beside a dump                                          |
//! | `codec`       | zstd frames and gzip members, found by their own structure          |
//! | `probe`       | whether a file ends like a sealed one                               |
//! | `seal`        | the seal, against the frames                                        |
//! | `records`     | what a seal tells of the dump's making                              |
//! | `intake`      | the content, seen once: hands each section to the module it is for  |
//! | `header`      | the minidump header as it is read                                   |
//! | `sections`    | the rules about it                                                  |
//! | `full`        | a full dump's ELF headers                                           |
//! | `avail`       | `dump_avail`                                                        |
//! | `bits`        | the page bitmap                                                     |
//! | `tables`      | page tables: their entries are read by `entry` and `hashed`         |
//! | `msgbuf`      | the message buffer                                                  |
//! | `kernel`      | a kernel's variables, through `memory`, the dump's address space; `symbols` is what it asks about the kernel |
//! | `liveness`    | what a machine that ran on has torn, as evidence                     |
//! | [`compare`]   | two dumps, page by page                                             |
//! | `run`         | the order of all this, and what needs two of them                   |

mod avail;
mod bits;
mod codec;
pub mod compare;
mod container;
mod entry;
mod facts;
mod finding;
mod full;
mod hashed;
mod header;
mod info;
mod input;
mod intake;
mod kdh;
mod kernel;
mod liveness;
mod memory;
mod msgbuf;
mod options;
mod probe;
mod records;
pub mod render;
mod report;
mod rule;
pub mod rules;
mod run;
mod seal;
mod sections;
mod symbols;
mod tables;
mod workers;

pub use facts::{Container, Facts};
pub use finding::{Excerpt, Filter, Finding, Location, Outcome, Region, Sink, Space};
pub use liveness::{Evidence, Liveness};
pub use options::{Depth, Options};
pub use report::{Report, Verdict};
pub use rule::{Group, Rule, Severity};
pub use run::verify;
pub use symbols::{DumpedMemory, KernelFacts, SleepingThread, Symbol, Threads};
