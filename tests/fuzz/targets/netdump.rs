#![no_main]
//! Sends arbitrary packets and events to the server of netdump(4).

#[path = "../../tests/all/netdump/laws.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| laws::packets(bytes));
