#![no_main]
//! A file whose parities and seal digests are right, opened, verified to the bottom and read.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    livecore_fuzz::mend(&mut bytes);
    livecore_fuzz::dump(bytes);
});
