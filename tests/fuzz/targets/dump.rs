#![no_main]
//! Opens, deeply verifies and reads a file.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::dump(bytes.to_vec()));
