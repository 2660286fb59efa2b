#![no_main]
//! A sealed stream whose digests are right, whatever its index says.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    livecore_fuzz::mend(&mut bytes);
    livecore_fuzz::stream(bytes);
});
