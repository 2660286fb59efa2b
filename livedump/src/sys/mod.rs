//! The system: the only unsafe code of the workspace, and the only questions of which system it is.

pub mod signals;
