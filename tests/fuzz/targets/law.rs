#![no_main]
//! Reads a file with the verifier and with every verb that reads dumps, which must agree.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::law(bytes));
