#![no_main]
//! Runs a verb on a file.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::verbs::verbs(bytes));
