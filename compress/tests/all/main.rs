//! All integration tests of this crate, in one binary so that they link once.

mod common;
mod damage;
mod example;
mod failures;
mod forged;
mod fuzz;
mod interop;
mod kept;
mod outputs;
mod parts;
mod restarts;
mod round_trip;
mod search;
