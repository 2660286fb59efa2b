#![no_main]
//! An image of memory, of whatever format its bytes say.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    livecore_livedump::image::exercise::exercise(bytes);
});
