#![no_main]
//! Salvages a file; a salvaged dump verifies and opens.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::salvage(bytes.to_vec()));
