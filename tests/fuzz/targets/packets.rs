#![no_main]
//! Sends arbitrary bytes to the debugger server.

#[path = "../../../cli/serve/tests/all/laws.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::packets(bytes));
