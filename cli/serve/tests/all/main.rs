//! The integration tests of this crate, in one binary to link only once.

mod example;
mod laws;
mod strangers;
