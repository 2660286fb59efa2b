//! Dumps, opened: any container, any codec, random access.
//!
//! ```text
//!  any        a dump of any kind: what its payload begins with decides
//!  open       a minidump's sections read and compared
//!  minidump   the minidump; memory: it as the memory of its machine
//!  envelope   what a dump of any kind lies in; beside: its info file; carried: a minidump in a core
//! ```

mod any;
pub(crate) mod beside;
pub(crate) mod carried;
pub(crate) mod envelope;
mod memory;
mod minidump;
pub(crate) mod open;
mod options;
mod table_cache;
mod warning;

pub use any::AnyDump;
pub use beside::{info_file, read_info};
pub use envelope::{Envelope, HeaderOrigin};
pub use minidump::Dump;
pub use options::OpenOptions;
pub use warning::{Shortness, Warning};

#[cfg(test)]
pub(crate) mod tests;
