//! All integration tests of this crate, in one binary so that they link once.

mod common;
mod compare;
mod example;
mod faults;
mod findings;
mod formats;
mod hostile;
mod parts;
mod ports;
mod real;
mod recipes;
mod rules;
mod verdicts;
