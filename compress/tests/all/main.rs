//! Every integration test of this crate, as one binary: it links once.

mod common;
mod damage;
mod failures;
mod forged;
mod fuzz;
mod interop;
mod parts;
mod round_trip;
