//! The seal: what follows the data frames of a stream of ours, and makes it indexed and checked.
//!
//! `docs/sealed.md` describes the whole file; [`mod@format`] has the definitions.

pub mod format;
pub(crate) mod read;
pub(crate) mod write;
