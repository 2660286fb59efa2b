//! Checks headers, checksums and structure of FreeBSD kernel dumps.
//!
//! The verifier is independent of the reader and the producer. It shares their definitions (structs,
//! constants, sizes) and none of their arithmetic: it reads headers and the seal, and computes
//! lengths, offsets, bitmap and ranks, with code of its own. A bug in one is therefore not a bug in
//! both. The caller supplies a kernel's symbols and types through [`KernelFacts`].
//!
//! A *rule* ([`Rule`]) is a claim that is true of every sound dump; [`rules::all`] lists them.
//! [`verify()`] applies them to one dump and returns a [`Report`]: facts, findings, and a verdict
//! with an exit code. [`render`] writes reports as text, JSON and other formats. `docs/verify.md`
//! describes rules and formats.
//!
//! | module      | content                                                               |
//! |-------------|-----------------------------------------------------------------------|
//! | `container` | the offsets of header, payload and padding                            |
//! | `encryption` | the key block, and the file as it is after decryption                |
//! | `kdh`       | `struct kerneldumpheader`                                             |
//! | `info`      | a dump's `info.N`                                                     |
//! | `codec`     | walks over zstd frames and gzip members, without the seal's index     |
//! | `probe`     | search for a seal from the end of the file                            |
//! | `seal`      | the seal, compared with the frames                                    |
//! | `receipt`   | pages and memory that were left out on request                        |
//! | `records`   | the producer's records in the seal                                    |
//! | `intake`    | the decoded content, passed to the modules below in one pass          |
//! | `header`    | the minidump header                                                   |
//! | `sections`  | the rules about the minidump header                                   |
//! | `full`      | the ELF headers of a full dump                                        |
//! | `avail`     | `dump_avail`                                                          |
//! | `bits`      | the page bitmap                                                       |
//! | `tables`    | page tables; `entry`, `hashed` and `radix` parse their entries        |
//! | `msgbuf`    | the message buffer                                                    |
//! | `memory`    | the dumped kernel's memory, by virtual address                        |
//! | `kernel`    | a kernel's variables, compared with the dump                          |
//! | `keys`      | the interface to the private key of encrypted dumps                  |
//! | `symbols`   | the interface to a reader of kernel files                             |
//! | `textdump`  | text dumps: the archive and its members                               |
//! | `liveness`  | the consistency of live dumps                                         |
//! | [`compare`] | the comparison of two dumps, page by page                             |
//! | `run`       | the verification of one dump                                          |

mod avail;
mod bits;
mod codec;
pub mod compare;
mod container;
mod encryption;
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
mod keys;
mod liveness;
mod memory;
mod msgbuf;
mod options;
mod overlap;
mod probe;
mod radix;
mod receipt;
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
mod textdump;
mod workers;

pub use facts::{Container, Facts};
pub use finding::{Excerpt, Filter, Finding, Location, Outcome, Region, Sink, Space};
pub use keys::OneTimeKeys;
pub use liveness::{Evidence, Liveness};
pub use options::{Depth, Options};
pub use report::{Report, Verdict};
pub use rule::{Group, Rule, Severity};
pub use run::verify;
pub use symbols::{DumpedMemory, KernelFacts, NoDump, SleepingThread, Symbol, Threads};
