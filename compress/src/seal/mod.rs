//! The seal after the data frames of a stream: index, checks and attachment.
//!
//! `docs/sealed.md` describes the file format; [`mod@format`] has the definitions.

mod bytes;
pub mod format;
pub(crate) mod part;
pub(crate) mod read;
mod wrap;
pub(crate) mod write;

pub use read::cipher;
