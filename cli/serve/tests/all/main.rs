//! Every integration test of this crate, as one binary: it links once.

mod laws;
mod strangers;
