//! Images of a machine's memory, in the forms in which they are kept.

pub mod layout;
pub mod raw;

pub use layout::{Opened, open};
pub use raw::RawImage;
