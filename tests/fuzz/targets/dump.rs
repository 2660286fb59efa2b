#![no_main]
//! A file, opened, verified to the bottom and read.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::dump(bytes.to_vec()));
