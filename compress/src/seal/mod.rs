//! The seal: what follows the data frames of a stream of ours, and makes it indexed and checked.
//!
//! `docs/sealed.md` describes the whole file; [`mod@format`] has the definitions.

mod bytes;
pub mod format;
pub(crate) mod part;
pub(crate) mod read;
mod wrap;
pub(crate) mod write;
