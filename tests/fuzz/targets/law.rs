#![no_main]
//! A file, read by the verifier and by every verb that reads dumps: they agree.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::law(bytes));
