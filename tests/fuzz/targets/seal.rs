#![no_main]
//! Recomputes the digests of a sealed stream, then reads it.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    livecore_fuzz::fix_digests(&mut bytes);
    livecore_fuzz::stream(bytes);
});
