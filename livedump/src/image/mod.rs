//! Images of a machine's memory, in the forms in which they are kept.

pub mod raw;

pub use raw::RawImage;
