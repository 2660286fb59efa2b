//! Images of a machine's memory, in the forms in which they are kept.

pub mod cpu;
pub mod layout;
pub mod raw;

pub use cpu::{Control, CpuState, Segment, Segments};
pub use layout::{Opened, open};
pub use raw::RawImage;
