#![no_main]
//! Reads a stored stream: index, decoders, random access.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::stream(bytes.to_vec()));
