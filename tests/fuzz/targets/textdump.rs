#![no_main]
//! Reads text dumps, as files and on devices.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore_fuzz::textdump::textdump(bytes));
