#![no_main]
//! Recomputes parities and seal digests of a file, then opens, deeply verifies and reads it.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    livecore_fuzz::fix_digests(&mut bytes);
    livecore_fuzz::dump(bytes);
});
