#![no_main]
//! Opens encrypted dumps and reads key blocks.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::keys::keys(bytes));
