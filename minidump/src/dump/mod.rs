//! Open dumps in any container and codec, with random access.
//!
//! ```text
//!  any        opens a dump of any kind
//!  open       reads and checks the sections of a minidump
//!  minidump   the minidump; memory: reads its memory
//!  contradictions   fields that no kernel writes
//!  envelope   container, stream, header; carried: a minidump in a core
//! ```

mod any;
pub(crate) mod carried;
mod contradictions;
mod decrypt;
pub(crate) mod envelope;
mod memory;
mod minidump;
pub(crate) mod open;
mod options;
mod origin;
mod table_cache;
mod warning;

pub use any::AnyDump;
pub use envelope::Envelope;
pub use minidump::Dump;
pub use options::OpenOptions;
pub use origin::HeaderOrigin;
pub use warning::{Shortness, Warning};

#[cfg(test)]
pub(crate) mod tests;
