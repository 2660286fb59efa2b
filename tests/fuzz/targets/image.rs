#![no_main]
//! Opens and reads a memory image of any format.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    livecore_livedump::image::exercise::exercise(bytes);
});
