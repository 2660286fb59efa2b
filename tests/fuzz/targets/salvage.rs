#![no_main]
//! A damaged dump: what is salvaged of it is a dump.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::salvage(bytes.to_vec()));
