#![no_main]
//! What somebody sends to the debugger server.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| livecore::serve::fuzz::packets(bytes));
