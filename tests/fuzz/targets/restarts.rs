#![no_main]
//! Reads a single stream with a file of restart points.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::restarts::restarts(bytes));
